"""What npae's own layers promise beyond the protocol of `gradcheck.check_layer`, each promise a test of its own:
values on every size and far out, kept buffers, held branches, images on their own, ties and kinks, moments.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from npae import gradcheck
from npae.gradcheck import Line
from npae.gradcheck.diagnosis.pair import show
from npae.gradcheck.report import attempt
from npae.gradcheck.specimen import same_branch
from npae.lab import oracles
from npae.lab.catalogue import Case
from npae.lab.moments import moments
from npae.layers import MaxPool2d, ReLU, Reparameterize
from npae.layers.affine import Affine, Tied

ENTRIES = 60  # of x and of each parameter of a layer
NOISE = 2  # seed of the generator that random layers are given, and their oracle too
ROUNDING = 1e-13  # of the largest number: sums of up to a hundred float64 products, in another order
ULPS = 2e-15  # of each number far out: nine units in the last place
FAR = np.array([[-800, -80, -1e-9, -0.0], [0, 1e-9, 80, 800]])

Array = np.ndarray
Make = Callable[..., Any]


def promises(case: Case, make: Make) -> Iterator[Line]:
    """One line a promise that concerns the case; make(dtype) gives it on the kernels in question, with its noise."""
    def ask(claim: str, part: str, test: Callable[..., str]) -> Line:
        return attempt(claim, partial(test, case, make), part)

    yield ask("without a generator, pictures of every size have the values of the oracle", "reference", _every_size)
    yield ask("kept buffers give the same bits as fresh arrays", "state", _kept)
    yield ask("the next forward and backward leave y and dx of this one alone", "state", _fresh)
    if not case.random:
        yield ask("each image of a batch is on its own, and gradients add up over them", "batch", _images)
    yield ask("without need_dx there is none, and without a generator no array is the caller's", "state", _own)
    layer = make(np.float64)
    bends = [getattr(part, "activation", part) for part in layer.walk()]
    if any(isinstance(bend, ReLU | MaxPool2d) for bend in bends):
        yield ask("branches can be told and let go, and on held branches the gradient is the same", "gradient", _held)
    if isinstance(bends[0], ReLU):
        yield ask("at exactly 0 the slope is that of the left side", "reference",
                  _zero_units if isinstance(layer, Affine) else _zeros)
    if isinstance(layer, MaxPool2d):
        yield ask("of several equal maxima the first wins", "reference", _ties)
    if getattr(layer, "label", "") in oracles.ACTIVATIONS:
        yield ask("far out, close to zero and for a not-a-number the values are right", "reference", _far)
    if any(isinstance(part, Tied) for part in layer.walk()):
        yield ask("the tied layer holds its partner's W", "state", _one_W)
    if case.random and case.kind != "Sequential":
        yield attempt("mean, variance and independence of the noise", partial(moments, make(np.float64), _draw(case)),
                      "moments")


def entries(case: Case) -> int:
    """How many entries of x and of each parameter are checked."""
    return 10 if case.kind == "Sequential" else ENTRIES  # a net has many parameters


def _draw(case: Case, dtype: Any = np.float64, seed: int = 1, shape: tuple[int, ...] | None = None) -> Array:
    return np.random.default_rng(seed).standard_normal(shape or case.input_shapes[0]).astype(dtype)


def _run(layer: Any, x: Array, seed: int = 5, times: int = 1) -> dict[str, Array]:
    """y, dx and the gradients after so many backwards, as copies."""
    layer.zero_grad()
    y = layer.forward(x)
    dy = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    found = {"y": y.copy()}
    for _ in range(times):
        dx = layer.backward(dy)
    return {**found, "dx": dx.copy(), **{p.name: p.grad.copy() for p in layer.params}}


def _differ(got: Array, want: Array, rtol: float, name: str) -> str:
    """In words, or nothing."""
    if got.shape != want.shape:
        return f"{name} has shape {got.shape} instead of {want.shape}"
    gap, size = np.max(np.abs(got - want), initial=0), np.max(np.abs(want), initial=0)
    return "" if gap <= rtol * size else f"{name} is off by {gap:.1e}, {rtol * size:.1e} allowed"


def _unlike(got: dict[str, Array], want: dict[str, Array], rtol: float = 0.0) -> str:
    return next((wrong for name in want if (wrong := _differ(got[name], want[name], rtol, name))), "")


# ---- values and memory

def _every_size(case: Case, make: Make) -> str:
    """One layer for all sizes; noise layers are the identity, and Reparameterize takes an eps."""
    layer = make(np.float64)
    layer.give_rng(None)
    for shape in case.input_shapes:
        x = _draw(case, shape=shape)
        for part in layer.walk():
            if isinstance(part, Reparameterize):
                width = 3 if case.kind == "Sequential" else shape[1] // 2
                part.eps = _draw(case, shape=(part.samples * shape[0], width))
        wrong = _differ(layer.forward(x.copy()), oracles.forward(layer, x), ROUNDING, f"y of x {shape}")
        if wrong:
            return wrong
    return ""


def _batches(case: Case) -> tuple[Array, Array]:
    """Two batches of different N, in the layer's own float32."""
    n, *rest = case.input_shapes[0]
    return _draw(case, np.float32, 1), _draw(case, np.float32, 2, (n + 1, *rest))


def _kept(case: Case, make: Make) -> str:
    """A small, a large and another small batch, each with two backwards; then two layers in turn."""
    small, large = _batches(case)
    fresh, kept, other = make(), make(), make()
    for layer in (kept, other):
        layer.keep_buffers(True)
    for x in (small, large, small[::-1] + 1):
        wrong = _unlike(_run(kept, x, times=2), _run(make(), x, times=2))
        if wrong:
            return f"{wrong}, N = {len(x)}"
        kept.give_rng(np.random.default_rng(NOISE) if case.random else None)
    dy = np.ones_like(fresh.forward(small))
    kept.forward(small)
    other.forward(large)
    wrong = _differ(kept.backward(dy), fresh.backward(dy), 0, "dx")
    return f"{wrong} after the forward of another layer: something is shared between two instances" if wrong else ""


def _fresh(case: Case, make: Make) -> str:
    layer = make()
    small, large = _batches(case)
    y = layer.forward(large)
    dx = layer.backward(np.ones_like(y))
    before = {"y": y.copy(), "dx": dx.copy()}
    _run(layer, small)
    return _unlike({"y": y, "dx": dx}, before)


def _own(case: Case, make: Make) -> str:
    layer, x = make(), _batches(case)[0]
    dy = np.ones_like(layer.forward(x))
    if layer.backward(dy, need_dx=False) is not None:
        return "backward(dy, need_dx=False) gives something"
    if any(isinstance(part, Reparameterize) for part in layer.walk()):  # nothing goes without its noise
        return ""
    layer.give_rng(None)
    y = layer.forward(x)
    shared = [name for name, a, b in (("y", y, x), ("dx", layer.backward(dy), dy)) if np.shares_memory(a, b)]
    return f"{', '.join(shared)} may be written to, and with it what came in" if shared else ""


def _one_W(case: Case, make: Make) -> str:
    tied: list[Any] = [layer for layer in make().walk() if isinstance(layer, Tied)]
    return "" if all(layer.W is layer.partner.W for layer in tied) else "it has one of its own, and they drift apart"


# ---- gradients

def _images(case: Case, make: Make) -> str:
    layer = make(np.float64)
    x = np.concatenate([_draw(case), _draw(case, seed=3)])  # two images at least
    whole = _run(layer, x)
    dys = np.random.default_rng(5).standard_normal(whole["y"].shape)
    layer.zero_grad()
    ys, dxs = zip(*((layer.forward(x[i:i + 1]).copy(), layer.backward(dys[i:i + 1]).copy()) for i in range(len(x))),
                  strict=True)
    alone = {"y": np.concatenate(ys), "dx": np.concatenate(dxs), **{p.name: p.grad for p in layer.params}}
    return _unlike(whole, alone, ROUNDING)


def _held(case: Case, make: Make) -> str:
    """Another x stays on the branch of the first one, until the layer is let go."""
    layer, x, other = make(np.float64), _draw(case), _draw(case, seed=3)
    layer.forward(x)
    branch = copy.deepcopy(layer.branch_signature())
    layer.hold(branch)
    layer.forward(other)
    if not same_branch(layer.branch_signature(), branch):
        return "another x has left the branch that was to be held"
    layer.hold(None)
    y = layer.forward(other)
    if same_branch(layer.branch_signature(), branch) or not np.array_equal(y, make(np.float64).forward(other)):
        return "another x is on the same branch, though nothing holds it"
    noise = np.random.default_rng(NOISE) if case.random else None
    report = gradcheck.check(make(np.float64), _draw(case), rng=noise, entries=entries(case), hold_branches=True)
    return "; ".join(report.wrong)


# ---- kinks and extremes: what no difference can see

def _zeros(case: Case, make: Make) -> str:
    """Zeros of both signs among the numbers: the slope there is alpha, as to the left."""
    layer, x = make(np.float64), np.resize([0.0, 1.5, -0.0, -2.0, 0.0], (3, 7))
    layer.forward(x)
    dy = _draw(case, shape=x.shape)
    dx = layer.backward(dy)
    wrong = _differ(dx, np.where(x > 0, dy, layer.alpha * dy), 0, "dx")
    slopes = dx[x == 0] / dy[x == 0]
    if wrong and np.ptp(slopes) < ROUNDING:
        return f"{wrong}: at x = 0, dx / dy is {show(slopes[0]) if slopes[0] else 0} where {layer.alpha:g} belongs"
    return wrong


def _zero_units(case: Case, make: Make) -> str:
    """With W = 0 and b = 0 every unit stands at its kink, and db = alpha sum dy."""
    layer = make(np.float64)
    for p in layer.params:
        p.value[...] = 0
    y = layer.forward(_draw(case))
    dy = _draw(case, seed=3, shape=y.shape)
    layer.backward(dy)
    return _differ(layer.b.grad, layer.activation.alpha * dy.reshape(-1, dy.shape[-1]).sum(0), ROUNDING, "db")


def _ties(case: Case, make: Make) -> str:
    """Pictures of -1, 0 and 1, of zeros alone, of -inf alone; the gradients are of whole numbers, exact."""
    rng, layer = np.random.default_rng(4), make(np.float64)
    shape = case.input_shapes[0]
    for x in (rng.integers(-1, 2, shape) * 1.0, np.zeros(shape), np.full(shape, -np.inf)):
        y = layer.forward(x)
        dy = rng.integers(1, 100, y.shape) * 1.0
        dx = layer.backward(dy)
        wrong = _differ(dx, oracles.max_pool2d_input_grad(x, dy, layer), 0, "dx")
        if wrong:
            whole = np.sum(dx) > np.sum(dy) + 0.5
            return f"{wrong}: the gradient goes to every maximum, each gets all of it" if whole else wrong
    return ""


def _far(case: Case, make: Make) -> str:
    layer: Any = make(np.float64)
    with np.errstate(all="ignore"):
        y = layer.forward(FAR)
        want = oracles.forward(layer, FAR)
        wrong = [f"f({x:g}) = {a!r} instead of {b!r}" for x, a, b in zip(FAR.flat, y.flat, want.flat, strict=True)
                 if not abs(a - b) <= ULPS * abs(b)]
        swallowed = not np.isnan(layer.forward(np.full((2, 2), np.nan))).all()
    return "; ".join(wrong) or ("a not-a-number became a number" if swallowed else "")
