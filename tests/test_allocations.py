"""After the first step, a training step allocates nothing large and nothing that grows.

NumPy's arrays are counted by tracemalloc, line by line: what a line of npae has live at its most, above what was there
before, temporaries included. Numba's own arrays are counted by Numba.
"""
import gc
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

import npae
from npae.kernels import reference
from npae.layers import Dense, Flatten, ReLU, Reshape, Sequential
from npae.losses import Bernoulli, Gaussian, SquaredError
from npae.models import VAE

HOUSE = str(Path(npae.__file__).resolve().parent)
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
MOST = 64 * 1024  # bytes
RECIPES = "conv-ae", "conv-vae", "mlp-vae", "tied-ae", "bernoulli-vae"
every_recipe = pytest.mark.parametrize("recipe", RECIPES)


@pytest.fixture
def make_step(monkeypatch):
    """The step that benchmarks time, after it has run twice."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from steps import Step

    def make(recipe, batch_size=None):
        step = Step(recipe, batch_size)
        step(0)
        step(1)
        return step

    return make


class Lines:
    """For as long as it is open: the most bytes that each line of npae has allocated at once in one go."""

    def __enter__(self):
        self.most, self.line = Counter(), None
        gc.collect()
        tracemalloc.start()
        self.before = tracemalloc.get_traced_memory()[0]
        sys.settrace(self.trace)
        return self

    def __exit__(self, *raised):
        sys.settrace(None)
        tracemalloc.stop()

    def trace(self, frame, event, argument):
        """At every line, call and return: what has happened since the last of them belongs to that last line."""
        _, peak = tracemalloc.get_traced_memory()
        if self.line is not None:
            self.most[self.line] = max(self.most[self.line], peak - self.before)
        inside = frame.f_code.co_filename.startswith(HOUSE)
        if inside and event == "return":
            frame = frame.f_back if frame.f_back.f_code.co_filename.startswith(HOUSE) else frame
        if inside:
            self.line = f"{frame.f_code.co_filename.removeprefix(HOUSE + '/')}:{frame.f_lineno}"
        tracemalloc.reset_peak()
        self.before = tracemalloc.get_traced_memory()[0]
        return self.trace if inside else None


def test_a_large_array_is_found_where_it_is_made_even_if_it_is_gone_at_once():
    """The instrument itself: layers that do not keep their buffers allocate in `Workspace.empty`, and tell so."""
    layer, x = Dense(300, 200, activation="relu", rng=np.random.default_rng(0)), np.ones((500, 300), np.float32)
    layer.forward(x)
    with Lines() as lines:
        layer.forward(x)
    large = {line: size for line, size in lines.most.items() if size > MOST}
    assert {line.split(":")[0] for line in large} == {"kernels/workspace.py", "layers/base.py"}  # y, and its copy
    assert all(400_000 <= size <= 410_000 for size in large.values())
    with Lines() as lines:
        ReLU().slope(x)
    assert [line.split(":")[0] for line in lines.most if lines.most[line] > MOST] == ["layers/activations.py"]


@every_recipe
def test_a_step_allocates_no_large_block(make_step, recipe):
    """At the recipe's own batch size."""
    step = make_step(recipe)
    with Lines() as lines:
        step(2)
        step(3)
    large = {line: f"{size / 1024:,.0f} KiB" for line, size in lines.most.most_common() if size > MOST}
    assert not large, "\n".join(f"{line} allocates {size}" for line, size in large.items())


def test_noise_from_a_generator_is_drawn_into_a_kept_array(make_step):
    """As in a fit, where nobody hands over eps."""
    step = make_step("mlp-vae")
    model, layer = step.model, step.model.reparameterize
    layer.eps = None
    for _ in range(2):
        model.loss(step.x[0], rng=np.random.default_rng(0))
        model.backward()
    with Lines() as lines:
        model.loss(step.x[1], rng=np.random.default_rng(1))
        model.backward()
    assert not [line for line, size in lines.most.items() if size > MOST]


def run(model, batches, keep):
    """Terms and gradients of batches one after another, each as it is when the next one comes."""
    model.keep_buffers(keep)
    seen = []
    for i, x in enumerate(batches):
        model.zero_grad()
        terms = model.loss(x, rng=np.random.default_rng(i))
        model.backward()
        model.backward()  # may be repeated, and adds
        seen.append((terms, model.grad.copy(), model.dy.copy(), model.clamped.copy()))
    return seen


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.3), SquaredError()], ids=repr)
@pytest.mark.parametrize("kernels", [None, reference], ids=["fast", "reference"])
def test_kept_buffers_of_an_objective_change_no_bit(kernels, likelihood, kl):
    """Growing and shrinking batches, clamped ones among them; then fresh arrays again."""
    rng = np.random.default_rng(0)
    encoder = Sequential([Flatten(), Dense(6, 8, rng=rng, kernels=kernels)])
    decoder = Sequential([Dense(4, 6, rng=rng, kernels=kernels), Reshape((3, 2, 1))])
    model = VAE(encoder, decoder, likelihood=likelihood, beta=0.7, kl=kl).to(kernels=kernels)
    batches = [rng.random((n, 3, 2, 1)).astype(np.float32) for n in (3, 5, 1, 5, 2)]
    model.encoder.layers[1].b.value[4:] = 0, 19.5, 0, -30.2
    fresh, kept, again = (run(model, batches, keep) for keep in (False, True, False))
    assert set(np.unique(fresh[1][-1])) == {-1, 0, 1}
    for want, *others in zip(fresh, kept, again, strict=True):
        for got in others:
            assert got[0] == want[0] and all(np.array_equal(a, b) for a, b in zip(got[1:], want[1:], strict=True))


def test_a_loss_writes_where_it_wrote_before_only_while_buffers_are_kept():
    """Results are the caller's own by default, and after a fit again; a copy of the model has buffers of its own."""
    rng = np.random.default_rng(0)
    model = VAE(Sequential([Dense(6, 8, rng=rng)]), Sequential([Dense(4, 6, rng=rng)]), likelihood=SquaredError())
    x = rng.random((3, 6)).astype(np.float32)

    def arrays(model):
        model.loss(x, rng=np.random.default_rng(0))
        model.backward()
        return model.dy, model.dmu, model.dlogvar, model.clamped, model.reparameterize.used_eps

    for keep in (False, True, False):
        model.keep_buffers(keep)
        twin = model.to()
        first, second, of_twin = arrays(model), arrays(model), arrays(twin)
        assert all(np.shares_memory(a, b) == keep for a, b in zip(first, second, strict=True))
        assert not any(np.shares_memory(a, b) for a, b in zip(second, of_twin, strict=True))
        fresh = arrays(twin)
        assert not any(np.shares_memory(a, b) for a, b in zip(of_twin, fresh, strict=True))


def tidy():
    """Python's own caches are no leak: that of attributes holds up to 4096 names that C code has asked for."""
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
    gc.collect()


@every_recipe
def test_twenty_steps_leave_no_more_behind_than_a_few(make_step, recipe):
    """Neither arrays of NumPy's nor of Numba's; and Numba makes no more of them in a step than in the one before."""
    step, live, numba_arrays = make_step(recipe, 16), np.zeros(24, np.int64), np.zeros((24, 2), np.int64)
    _nrt_python.memsys_enable_stats()
    tracemalloc.start()
    try:
        for i in range(24):
            before = rtsys.get_allocation_stats()
            step(i)
            after = rtsys.get_allocation_stats()
            numba_arrays[i] = after.alloc - before.alloc, after.alloc - after.free
            if i in (3, 23):
                tidy()
                live[i] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        _nrt_python.memsys_disable_stats()
    assert live[23] - live[3] < 20 * sys.getsizeof(np.empty(0))  # less than one empty array a step
    assert (numba_arrays[4:] == numba_arrays[4]).all(), numba_arrays
