"""The roofline counts the flops that are done, and the profile's parts are those of a step: nothing twice, no gaps."""
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from npae import kernels
from npae.kernels import fast
from npae.layers import Conv2d, UpsampleConv2d

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def step():
    from steps import Step

    return Step("bernoulli-vae", batch_size=3)


@pytest.fixture
def profile(step):
    import step_profile

    return step_profile.profile(step, steps=8)


PIXEL = 2 * 3 * 9  # flops of one pixel, one channel to one, for three pictures
BY_HAND = {  # bernoulli-vae at a batch of 3: in x out x pixels, 13 x 13 and 6 x 6 after 'valid' strides of 2
    "encoder.0": PIXEL * 1 * 32 * 13 * 13, "encoder.1": PIXEL * 32 * 64 * 6 * 6, "encoder.3": 2 * 3 * 2304 * 4,
    "decoder.0": 2 * 3 * 2 * 1568, "decoder.2": PIXEL * 32 * 64 * 7 * 7, "decoder.3": PIXEL * 64 * 32 * 14 * 14,
    "decoder.4": PIXEL * 32 * 1 * 28 * 28}


def test_flops_are_those_counted_by_hand(profile):
    """Backward is twice forward, but for the first layer, whose dx nobody wants."""
    for phase in ("forward", "backward"):
        found = {row["part"]: row["flops"] for row in profile["rows"] if row["phase"] == phase and row["flops"]}
        times = {name: 1 if phase == "forward" or name == "encoder.0" else 2 for name in BY_HAND}
        assert found == {name: times[name] * flops for name, flops in BY_HAND.items()}


def test_upsampling_counts_what_it_does_and_the_two_layers_beside_it():
    """4 x 4 taps meet each pixel of x; upsampled, 3 x 3 taps meet four times as many."""
    import step_profile

    assert step_profile.flops(UpsampleConv2d(5, 6, 3), 2, (7, 8, 5)) == (2 * 2 * 56 * 16 * 30, 2 * 2 * 4 * 56 * 9 * 30)
    assert step_profile.flops(Conv2d(5, 6, 3, stride=2), 2, (7, 8, 5)) == (2 * 2 * 16 * 9 * 30,) * 2


def test_the_parts_add_up_to_the_step(profile):
    """Exactly, as each stopwatch stops while an inner one runs; each layer has its loops, the optimizer too."""
    assert sum(row["total"] for row in profile["rows"]) == pytest.approx(profile["watched"], rel=1e-9)
    assert all(min(row["seconds"].values()) >= 0 for row in profile["rows"])
    for row in profile["rows"]:
        computes = bool(row["flops"]) or row["part"] in ("likelihood", "optimizer")
        assert (row["seconds"]["loops"] > 0) == computes, row["part"]
        assert row["seconds"]["python"] > 0


def test_a_step_is_timed_without_stopwatches_and_the_quickest_quarter_counts(step, monkeypatch):
    """Eight steps of 4, 9, 2, 8, 7, 1, 6 and 5 s: those of 1 and 2 s. A watched step asks another clock."""
    import step_profile

    ticks = (tick for seconds in (4, 9, 2, 8, 7, 1, 6, 5) for tick in (100.0, 100.0 + seconds))
    monkeypatch.setattr(step_profile, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    found = step_profile.profile(step, steps=8)
    assert found["step"] == 1.5 and found["watched"] != 1.5 and next(ticks, None) is None


def test_seconds_within_a_call_belong_to_the_inner_one(monkeypatch):
    """outer (1 s before, 4 s after) calls inner (2 s) twice: 5 s and 4 s, not 9 and 4."""
    import watch

    clock = iter([0.0, 1.0, 3.0, 3.0, 5.0, 9.0])
    monkeypatch.setattr(watch.time, "perf_counter", lambda: next(clock))
    found = watch.Watch()
    inner = found.timed(lambda: None, None, None, "loops")
    found.timed(lambda: (inner(), inner()), "outer", "forward", "python")()
    assert found.seconds == {("outer", "forward", "python"): 5.0, ("outer", "forward", "loops"): 4.0}


def test_watching_leaves_nothing_behind_and_changes_no_bit(step):
    import watch
    from steps import Step

    twin, before = Step("bernoulli-vae", batch_size=3), (dict(vars(fast)), dict(vars(kernels.fast_conv)))
    attributes = {id(layer): set(vars(layer)) for layer in step.model.walk()}
    step(0)
    with pytest.raises(KeyError), watch.watching(step) as seen:
        step(1)
        assert seen.kernels and fast.conv2d_forward is not before[0]["conv2d_forward"]
        raise KeyError
    assert (dict(vars(fast)), dict(vars(kernels.fast_conv))) == before
    assert {id(layer): set(vars(layer)) for layer in step.model.walk()} == attributes
    for i in range(2):
        twin(i)
    np.testing.assert_array_equal(twin.model.theta, step.model.theta)


def test_kernels_are_called_with_what_the_models_call_them_with(step):
    import kernel_calls

    calls = kernel_calls.measure(step, seconds=0)
    names = [call.kernel for call in calls]
    assert {"conv2d_forward", "conv2d_transpose_backward", "dense_backward", "bernoulli_nll", "adam_step"} <= set(names)
    first = calls[0]
    assert (first.kernel, first.shapes) == ("conv2d_forward", "3x28x28x1 3x3x1x32 32 3x13x13x32")
    assert first.flops == BY_HAND["encoder.0"]
    assert first.bytes == 4 * (3 * 784 + 9 * 32 + 32 + 3 * 169 * 32)
    adam = calls[names.index("adam_step")]
    assert adam.bytes == 7 * step.model.theta.nbytes, "theta, m and v are read and written, grad is read"
    assert adam.flops == 0 and all(call.seconds > 0 for call in calls)
    total = sum(call.times * call.flops for call in calls)
    assert total == 3 * sum(BY_HAND.values()) - BY_HAND["encoder.0"]


def test_equal_layers_are_timed_once_and_a_transpose_is_not_equal():
    """conv-vae has the same convolution twice; tied-ae the same sizes twice, of which one is a W transposed."""
    import kernel_calls
    from steps import Step

    def found(name, where):
        calls = kernel_calls.measure(Step(name, batch_size=2), seconds=0)
        return [call.times for call in calls if where in call.where and call.kernel.endswith("forward")]

    assert found("conv-vae", "Conv2d 64 -> 64") == [2]
    assert found("tied-ae", "Dense 256 -> 256") == [1, 1]


def test_the_nearer_roof_is_the_one_that_asks_for_more_time():
    """100 MF at 50 GF/s: 2 ms; 8 MB at 2 GB/s: 4 ms, and at 16 GB/s, half that many copied, 0.5 ms."""
    import kernel_calls

    call = {"flops": 1e8, "bytes": 8e6, "seconds": 8e-3}
    assert kernel_calls.roofs(call, 50.0, {"4000000": 2.0, "8000000": 99.0, "100": 99.0}) == pytest.approx(
        {"roof": "copies", "fraction": 0.5, "gflops": 12.5, "gbytes": 1.0})
    assert kernel_calls.roofs(call, 50.0, {"4000000": 16.0})["roof"] == "products"
    assert kernel_calls.roofs(call, 50.0, {"4000000": 16.0})["fraction"] == pytest.approx(0.25)


def test_the_machine_is_measured_in_processes_of_its_own():
    import machine

    peak = machine.sgemm_peak(1, sizes=(64, 128))
    assert peak["size"] in (64, 128) and peak["library"] == "NumPy" and 0.1 < peak["gflops"] < 1e4
    copies = machine.copy_bandwidth(2, far=1 << 22)
    assert list(copies) == [str(1 << 20), str(1 << 22)] and all(0.1 < rate < 1e4 for rate in copies.values())
    with pytest.raises(RuntimeError, match="could not measure"):
        machine.sgemm_peak(1, sizes=(-1,))


def recorded():
    """One model of one layer, with round numbers: 4 GF in 1 s where the peak is 8 GF/s (2 threads), 5 (1 thread)."""
    def profile(step):
        rows = [{"part": "encoder.0", "what": "Dense 1 -> 1", "phase": "forward", "flops": 4_000_000_000,
                 "two_layer_flops": 6_000_000_000, "total": 0.8,
                 "seconds": {"loops": 0.7, "door": 0.05, "python": 0.05}},
                {"part": "optimizer", "what": "Adam", "phase": "", "flops": 0, "two_layer_flops": 0,
                 "seconds": {"loops": 0.2, "door": 0.0, "python": 0.0}, "total": 0.2}]
        return {"step": step, "watched": 1.0, "rows": rows}

    def peaks(gflops):
        return {"sgemm": {"gflops": gflops, "size": 512, "library": "NumPy"}, "copy": {"1000": 40.0, "1000000": 10.0}}

    calls = [{"kernel": "dense_forward", "where": "Dense 1 -> 1", "shapes": "1x1", "flops": 4_000_000_000,
              "bytes": 2_000_000, "times": times, "seconds": seconds} for times, seconds in ((1, 1.0), (3, 2.0))]
    return {"benchmark": "roofline", "machine": {"cpu": "Abacus"}, "versions": {}, "threads": 2,
            "peaks": {"1": peaks(5.0), "2": peaks(8.0)},
            "models": {"mlp-vae": {"batch": 7, "profiles": {"1": profile(2.0), "2": profile(1.0)}, "kernels": calls}}}


def test_the_tables_of_a_recorded_result():
    import roofline

    result = recorded()
    roofline.compare(result)
    result = json.loads(json.dumps(result))
    lines = roofline.markdown(result).splitlines()
    assert lines[0] == ("Abacus, 2 threads: sgemm 8 GF/s (NumPy), copies of 10 GB/s in memory and 40 GB/s in the "
                        "cores' caches (read and written).")
    assert lines[4] == ("| `mlp-vae` (7) | 1000.00 ms | 4 | 50% (75% counted as two layers) | 40% | 50%, 20% | 20% | "
                        "10% |")
    assert lines[8] == "| `dense_forward` | 2 | 2–4 | 0.0 | 25–50 % | 29% |"  # (0.5 + 6 * 0.25) / 7
    assert "sum" in roofline.table(result)


def test_the_picture_of_a_recorded_result():
    import roofline
    import roofline_picture

    result = recorded()
    roofline.compare(result)
    figure = roofline_picture.draw(result)
    figure.canvas.draw()
    bars, roofs = figure.axes
    assert [patch.get_width() for patch in bars.patches] == pytest.approx([50, 20, 20, 10])
    [point] = [line for line in roofs.lines if line.get_label() == "dense, forward"]
    np.testing.assert_allclose(point.get_data(), [[2000, 2000], [4, 2]])


def test_a_whole_small_run(monkeypatch):
    """Everything together, of one model, on small products and copies."""
    import machine
    import roofline

    peak, copies = machine.sgemm_peak, machine.copy_bandwidth
    monkeypatch.setattr(machine, "sgemm_peak", lambda threads, python=None: peak(threads, python, sizes=(64,)))
    monkeypatch.setattr(machine, "copy_bandwidth", lambda threads: copies(threads, far=1 << 20))
    result = json.loads(json.dumps(roofline.measure(["tied-ae"], [1], steps=4, seconds=0, batch_size=2)))
    assert result["benchmark"] == "roofline" and set(result["models"]["tied-ae"]["profiles"]) == {"1"}
    text = roofline.markdown(result)
    assert "`tied-ae` (2)" in text and "`squared_error`" in text
    assert text.count("\n") + 1 == 4 + 1 + 3 + len(roofline.by_kernel(result))
