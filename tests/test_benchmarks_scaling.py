"""The scaling benchmark compares what it says, in turn; its figures follow from the times, and each part runs small."""
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from npae import kernels
from npae.layers import Conv2d, ConvTranspose2d

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture(autouse=True)
def number_of_threads():
    """As it was: parts of the benchmark change it."""
    import numba

    kernels.resolve()
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def test_runs_take_turns_and_the_first_turn_does_not_count(monkeypatch):
    """a a a a b b b b, then again: a turn is an untimed call and three timed ones, the median of which counts."""
    import scaling_work

    clock, seconds, order = [0.0], {"a": [9, 1, 2, 6], "b": [9, 5, 4, 3]}, []
    monkeypatch.setattr(scaling_work.time, "perf_counter", lambda: clock[0])

    def run(name):
        def call(i):
            clock[0] += seconds[name][order[len(order) // 4 * 4:].count(name)]
            order.append(name)
        return call

    before = []
    found = scaling_work.in_rounds({name: run(name) for name in "ab"}, 2, seconds=0, before=before.append)
    assert found == {"a": [2, 2], "b": [4, 4]}
    assert "".join(order) == 3 * "aaaabbbb" and before == list("ababab")


def test_the_rise_is_to_the_least_before_it():
    import scaling_work

    assert scaling_work.rise([8, 4, 2, 2]) == 1
    assert scaling_work.rise([8, 4, 5, 6, 2]) == 1.5
    assert scaling_work.rise([3]) == 1


def test_the_exponent_of_a_square_is_two():
    import scaling_work

    assert scaling_work.exponent([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)
    assert scaling_work.exponent([1, 2, 4], [7, 14, 28]) == pytest.approx(1)


def test_flops_of_the_nets_of_any_width_are_those_counted_by_hand():
    import scaling_work

    once = 784 * 8 + 8 * 8 + 8 * 32
    assert scaling_work.flops(scaling_work.dense_net(8), 3) == 2 * 3 * (3 * 2 * once - 784 * 8)
    first, inner, dense, last = 196 * 9 * 4, 196 * 9 * 16, 784 * 32, 784 * 9 * 4
    assert scaling_work.flops(scaling_work.conv_net(4), 3) == 2 * 3 * (2 * first + 3 * (2 * inner + 2 * dense + last))
    kinds = [type(layer) for layer in scaling_work.conv_net(4).walk()]
    assert kinds.count(Conv2d) == 3 and kinds.count(ConvTranspose2d) == 1


def test_epochs_take_turns_too_and_the_quickest_of_the_rounds_counts(monkeypatch):
    """2 s and 1 s a thousand pictures in the first and the second round; the very first epoch is not timed."""
    import scaling_work

    clock, order = [0.0], []
    monkeypatch.setattr(scaling_work.time, "perf_counter", lambda: clock[0])

    def epoch(name, n):
        def run(k):
            order.append((n, k))
            clock[0] += n / 1000 * (2 - k)
        return run

    monkeypatch.setattr(scaling_work, "epoch", epoch)
    found = scaling_work.pictures(["any"], 2, [1000, 4000])["any"]
    assert found == {"seconds": {"1000": 1.0, "4000": 4.0}, "exponent": pytest.approx(1)}
    assert order == [(1000, 0), (1000, 0), (4000, 0), (1000, 1), (4000, 1)]


def test_threads_are_set_before_each_turn(monkeypatch):
    """A step that is three times as long on one thread: the speed-up is 3."""
    import numba
    import scaling_work

    clock = [0.0]

    class Step:
        batch_size = 5

        def __init__(self, name):
            pass

        def __call__(self, i):
            clock[0] += {1: 3.0, 2: 1.0}[numba.get_num_threads()]

    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("Numba has started with one thread")
    monkeypatch.setattr(scaling_work, "Step", Step)
    monkeypatch.setattr(scaling_work.time, "perf_counter", lambda: clock[0])
    found = scaling_work.threads(["any"], rounds=2)["any"]
    assert found == {"batch": 5, "seconds": {"1": 3.0, "2": 1.0}, "speed_up": 3.0, "range": [3.0, 3.0]}


def test_parts_run_small(capsys):
    import scaling

    result = scaling.measure(["batch", "pictures"], ["tied-ae"], rounds=1, threads=1, sizes=(1, 3), numbers=(20, 40))
    batch, pictures = (result["parts"][part]["tied-ae"] for part in ("batch", "pictures"))
    assert list(batch["us"]) == ["1", "3"] and batch["rise"] >= 1
    assert list(pictures["seconds"]) == ["20", "40"] and min(pictures["seconds"].values()) > 0
    width = scaling.scaling_work.width(1, widths=(4, 8), channels=(2,), batch_size=2)
    assert list(width["dense"]) == ["4", "8"] and width["conv"]["2"]["gflops"] > 0
    said = capsys.readouterr().out
    assert "batch: µs a picture | 1 | 3 |" in said and "pictures: seconds an epoch | 20 | 40 |" in said
    json.dumps({**result, "width": width})


def test_an_epoch_is_one_over_so_many_pictures(monkeypatch):
    import scaling_work

    seen = {}
    monkeypatch.setattr(scaling_work.train, "fit", lambda model, x, **settings: seen.update(settings, shape=x.shape))
    scaling_work.epoch("bernoulli-vae", 12_345)(0)
    assert seen["shape"] == (12_345, 28, 28, 1) and seen["epochs"] == 1 and seen["batch_size"] == 32
    assert seen["transform"] is not None


HOLDS = """import sys; sys.path.insert(0, {here!r})
from side_by_side import serve
hold = lambda mib: len(bytearray(mib << 20))
hold({before})
serve(lambda i: hold({inside}), {{}})"""


def test_peak_memory_is_the_process_s_own_and_of_a_moment_that_is_gone():
    """Workers that hold 256 MiB for a moment, while they step or before they are ready, beside one that does not."""
    import scaling_process

    def peak(before, inside, ready=False):
        code = HOLDS.format(here=str(ROOT / "benchmarks"), before=before, inside=inside)
        return scaling_process.peak([sys.executable, "-c", code], 1, 2, ready)

    ballast = bytearray(200 << 20)  # of this process, which is none of the workers' business
    least = peak(0, 0)
    assert len(ballast) and least < 100
    assert [peak(0, 256) - least, peak(256, 0) - least] == pytest.approx([256, 256], abs=3)
    assert [peak(0, 256, True) - least, peak(256, 0, True) - least] == pytest.approx([256, 0], abs=3)


def test_imports_and_the_first_step_are_those_of_fresh_processes():
    """With the compiler an import takes longer than without; the parts of a first step are within the whole."""
    import scaling_process

    found = scaling_process.startup([], repeats=1, threads=1)
    assert found["imports"]["npae"] < found["imports"]["npae.kernels.fast"] and 0 < found["bare"] < 5
    seconds, said = scaling_process._whole(scaling_process.FIND + scaling_process.FIRST.format(name="tied-ae"), 1, 1)
    parts = json.loads(said)
    assert len(parts) == 4 and min(parts) > 0 and sum(parts) < seconds


RECORDED = {
    "threads": {"tied-ae": {"batch": 20, "seconds": {"1": 0.003, "2": 0.002}, "speed_up": 1.5, "range": [1.4, 1.6]}},
    "batch": {"tied-ae": {"us": {"1": 200.0, "64": 8.04}, "rise": 1.04}},
    "pictures": {"tied-ae": {"seconds": {"1000": 0.25, "60000": 15.0}, "exponent": 1.0}},
    "width": {"dense": {"32": {"seconds": 0.001, "gflops": 20.0}}, "conv": {"4": {"seconds": 0.002, "gflops": 9.6}}},
    "memory": {"tied-ae": {"npae": 170.2, "torch": 320.0, "handed": 12.3, "fit": 181.0},
               "conv-ae": {"npae": 206.0, "fit": 214.0}},
    "startup": {"bare": 0.02, "imports": {"npae": 0.01}, "models": {"tied-ae": {
        "cold": 9.5, "warm": 1.25, "compiling": 8.25, "warm_parts": [0.1, 0.2, 0.9, 0.004]}}}}


def test_the_picture_of_a_recorded_result():
    import scaling_picture

    result = {"machine": {"cpu": "Abacus"}, "threads": 2, "parts": RECORDED}
    figure = scaling_picture.draw(result)
    figure.canvas.draw()
    batch, pictures = figure.axes
    np.testing.assert_allclose(batch.lines[0].get_data(), [[1, 64], [200, 8.04]])
    np.testing.assert_allclose(pictures.lines[0].get_data(), [[1000, 60_000], [250, 250]])
    moved = scaling_picture.spread({"high": 0.5, "low": 0.1, "middle": 0.12}, gap=0.05)
    assert moved == {"low": 0.1, "middle": pytest.approx(0.15), "high": 0.5}
    with pytest.raises(ValueError, match="nothing to draw in memory"):
        scaling_picture.draw({**result, "parts": {"memory": {}}})


def test_the_tables_of_a_recorded_result():
    import scaling

    assert set(RECORDED) == set(scaling.PARTS)
    text = scaling.markdown({"threads": 2, "parts": RECORDED})
    for line in ("| `tied-ae` (20) | 3.00 ms | 2.00 ms | 1.50 | 1.40 to 1.60 |", "| `tied-ae` | 200 | 8.0 | 4% |",
                 "| `tied-ae` | 0.25 | 15.00 | n^1.00 |", "| a step of 64 pictures, ms | 1.00 |", "| GF/s | 10 |",
                 "| `tied-ae` | 170 MiB | 320 MiB (handed over: 12) | 181 MiB |",
                 "| `conv-ae` | 206 MiB | – | 214 MiB |",
                 "| `npae` | 0.010 |", "| `tied-ae` | 9.5 s | 8.2 s | 1.25 s | 0.10 | 0.20 | 0.90 | 0.004 |"):
        assert line in text.splitlines(), line
    assert scaling.markdown({"threads": 2, "parts": {"memory": RECORDED["memory"]}}).count("\n") == 3
