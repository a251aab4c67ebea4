"""The rungs of the ladder compute the same convolution, are timed only if they do, and are told as they were measured.
"""
import copy
import json
import math
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from npae.kernels import reference
from npae.kernels.geometry import window_geometry

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SHAPES = {  # name -> (N, channels in, channels out, geometry)
    "stride 1": (3, 5, 7, window_geometry((6, 4), (3, 2), 1, "same")),
    "stride 2": (2, 3, 18, window_geometry((7, 6), (2, 3), 2, "same")),
    "padding 2": (1, 4, 3, window_geometry((5, 6), 3, 1, 2)),
    "kernel larger than the picture": (2, 2, 3, window_geometry((2, 3), (5, 4), 1, "same")),
    "pixels unseen": (1, 3, 5, window_geometry((8, 6), (2, 1), 3, "valid")),
}


@pytest.fixture
def rungs(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import ladder_rungs

    return ladder_rungs


@pytest.fixture
def ladder(rungs):
    import ladder

    return ladder


def rung(name, seconds, layer=False, scaled=1):
    return {"name": name, "buys": f"{name} buys", "layer": layer, "error": 0.1, "scaled": scaled, "seconds": seconds}


RECORDED = {
    "benchmark": "ladder", "machine": {"cpu": "abacus", "cores": 2}, "versions": {"numba": "0.1"}, "rounds": 3,
    "flops": 2_000_000, "batch": 16, "size": 14, "channels": 64, "kernel": 3, "peak": {"1": 1e9, "2": 1.6e9},
    "rungs": [rung("slow", {"1": 20.0}, scaled=512), rung("quick", {"1": 0.04, "2": 0.02}),
              rung("layer", {"1": 0.05, "2": 0.025}, True), rung("fused", {"1": 0.0025, "2": 0.00125}, True)],
}


# ---- the rungs


@pytest.mark.parametrize("shape", SHAPES)
def test_every_rung_is_the_reference(rungs, shape):
    work = rungs.make_work(*SHAPES[shape])
    for one in rungs.RUNGS:
        if one.run is rungs.direct and work.g.stride != (1, 1):
            with pytest.raises(ValueError, match=r"stride \(1, 1\) only, got \([23], [23]\)"):
                work.run(one)
        else:
            error = rungs.verify(one, work)
            assert 0 <= error < 1 and work.run(one).dtype == np.float32, one.name


def test_a_rung_that_is_wrong_by_more_than_rounding_is_refused(rungs):
    work = rungs.make_work(*SHAPES["stride 1"])

    def one_number(x, W, g):
        y = reference.conv2d(x, W, g)
        y[0, 1, 1, 2] += 1e-3
        return y

    def one_nan(x, W, g):
        y = reference.conv2d(x, W, g)
        y[-1, -1, -1, -1] = np.nan
        return y

    def without_bias(x, W, b, g):
        return np.maximum(reference.conv2d(x, W, g), 0)

    def without_relu(x, W, b, g):
        return reference.conv2d(x, W, g) + b

    for run, layer in ((one_number, False), (one_nan, False), (without_bias, True), (without_relu, True)):
        with pytest.raises(ValueError, match=r"broken is .* as far from the reference as rounding of 3[01] terms"):
            rungs.verify(rungs.Rung("broken", run, "nothing", layer), work)


def test_a_slow_rung_has_a_part_of_the_work_that_is_as_it_is_in_the_whole(rungs):
    work = rungs.make_work(*SHAPES["stride 1"])
    slow, quick = rungs.RUNGS[0], rungs.RUNGS[1]
    assert work.flops == 2 * 3 * 6 * 4 * 3 * 2 * 5 * 7
    assert work.flops / work.for_rung(slow).flops == 3 * 7 / 2 and work.for_rung(quick) is work
    part, whole = work.for_rung(slow).run(slow), work.run(quick)
    assert np.allclose(part, whole[:1, ..., :2], rtol=1e-5, atol=1e-5)


# ---- the clock


def test_a_turn_is_as_many_calls_as_fill_it_and_at_least_one(ladder, monkeypatch):
    now = [0.0]

    def call():
        now[0] += 2

    monkeypatch.setattr(ladder.time, "perf_counter", lambda: now[0])
    assert ladder.seconds(call, 5) == 2 and now[0] == 6
    assert ladder.seconds(call, 0) == 2 and now[0] == 8


def test_the_peak_is_the_best_of_the_squares(ladder, monkeypatch):
    spent = iter((4.0, 1.0, 9.0))
    monkeypatch.setattr(ladder, "seconds", lambda call, turn: next(spent))
    assert ladder.peak((10, 10, 10)) == 2000


def test_the_ladder_is_climbed_with_every_number_of_threads(ladder, monkeypatch):
    monkeypatch.setattr(ladder, "NAP", 0)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    result = ladder.measure(batch=2, rounds=2, size=5, channels=4, sides=(16,), turn=0)
    assert json.loads(json.dumps(result)) == result and numba.get_num_threads() == 1
    numba.set_num_threads(before)
    threads = [str(t) for t in range(1, min(2, numba.config.NUMBA_NUM_THREADS) + 1)]
    assert result["flops"] == 2 * 2 * 5 * 5 * 3 * 3 * 4 * 4 and list(result["peak"]) == threads
    assert [row["name"] for row in result["rungs"]] == [one.name for one in ladder.RUNGS]
    for one, row in zip(ladder.RUNGS, result["rungs"], strict=True):
        assert list(row["seconds"]) == threads[:1 if one.slow else None] and row["scaled"] == (4 if one.slow else 1)
        assert all(spent > 0 for spent in row["seconds"].values()) and 0 <= row["error"] < 1


def test_a_slow_rung_is_scaled_and_the_best_turn_counts(ladder, monkeypatch):
    turns = iter((5.0, 1.0, 3.0))
    monkeypatch.setattr(ladder, "_turn", lambda *args: next(turns))
    monkeypatch.setattr(ladder, "peak", lambda *args: 1.0)
    monkeypatch.setattr(ladder, "RUNGS", ladder.RUNGS[:1])
    [row] = ladder.measure(batch=3, rounds=3, size=4, channels=4)["rungs"]
    assert row["scaled"] == 6 and row["seconds"] == {"1": 6.0}


def test_nothing_is_timed_before_it_is_right(ladder, monkeypatch):
    broken = ladder.RUNGS[1]._replace(run=lambda x, W, g: np.zeros(x.shape, x.dtype))
    monkeypatch.setattr(ladder, "RUNGS", (ladder.RUNGS[3], broken))
    monkeypatch.setattr(ladder, "_turn", lambda *args: pytest.fail("timed"))
    with pytest.raises(ValueError, match=r"naive Numba is .* times as far from the reference"):
        ladder.measure(batch=1, size=4, channels=3)


# ---- what is told of it


def test_the_table_is_what_was_measured(ladder):
    head, line, *rows = ladder.markdown(RECORDED).splitlines()
    assert head.count("|") == line.count("|") == 9
    assert rows[:4] == [
        "| slow | slow buys | 20.0 s | 0.000100 | – | 0.01 % | – | – |",
        "| quick | quick buys | 40.0 ms | 0.0500 | 500 | 5 % | 0.100 | 6 % |",
        "| layer | layer buys | 50.0 ms | 0.0400 | – | 4 % | 0.0800 | 5 % |",  # other work: not compared
        "| fused | fused buys | 2.50 ms | 0.800 | 20.0 | 80 % | 1.60 | 100 % |",
    ]
    assert rows[4] == "" and len(rows) == 6
    for words in ("Of slow 1/512 of the work is timed, and scaled. The peak", "2 million floating",
                  "1.00 GF/s with 1 thread and 1.60 GF/s with 2 threads", "the best of 3 turns",
                  "abacus, 2 cores, Numba 0.1"):
        assert words in rows[5]


def test_a_machine_with_one_core_has_dashes_for_two_threads(ladder):
    single = copy.deepcopy(RECORDED)
    del single["peak"]["2"]
    for row in single["rungs"]:
        row["seconds"].pop("2", None)
    assert ladder.markdown(single).splitlines()[3] == "| quick | quick buys | 40.0 ms | 0.0500 | 500 | 5 % | – | – |"
    assert len(ladder.picture(single).axes[0].patches) == 4


def test_numbers_have_three_digits(ladder):
    assert [ladder._number(v) for v in (0.00123456, 0.5, 9.99, 12.34, 99.94, 123.4, 12345.6, math.nan)] == [
        "0.00123", "0.500", "9.99", "12.3", "99.9", "123", "12,346", "–"]
    assert [ladder._time(s) for s in (231.4, 1.5, 0.0123, 4.56e-5, 1e-8)] == [
        "231 s", "1.50 s", "12.3 ms", "45.6 µs", "0.0100 µs"]


def test_the_bars_are_as_long_as_the_rungs_are_fast(ladder):
    [ax] = ladder.picture(RECORDED).axes
    lengths = [bar.get_width() for bar in ax.patches]
    assert np.allclose(lengths, [1e-4, 0.05, 0.04, 0.8, np.nan, 0.1, 0.08, 1.6], equal_nan=True)
    told = {text.get_text() for text in ax.texts}
    assert {"slow", "fused buys", "× 500", "× 20.0", "0.000100", "1.60"} <= told and "–" not in told
    assert ax.get_xscale() == "log" and [line.get_xdata()[0] for line in ax.lines] == [1, 1.6]


def test_the_command_writes_what_it_prints(ladder, monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(ladder, "measure", lambda *args: asked.append(args) or RECORDED)
    monkeypatch.setattr(sys, "argv", ["ladder.py", "--batch", "3", "--rounds", "2", "--json", str(tmp_path / "a.json"),
                                      "--picture", str(tmp_path / "a.png")])
    ladder.main()
    assert asked == [(3, 2)] and capsys.readouterr().out.startswith(ladder.markdown(RECORDED))
    assert json.loads((tmp_path / "a.json").read_text()) == RECORDED
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
