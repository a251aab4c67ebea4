"""The state protocol: bugs that no gradient check sees, because each call taken alone is right.
Every test makes fresh layers of its own and returns in words what it found wrong, or nothing."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from npae.gradcheck.report import Line, attempt
from npae.gradcheck.specimen import REORDERED_RTOL, Maker, unlike

SCRIBBLE = 123.0

VIEW = "y is a view of x: return a copy"
EQUAL = "two new layers with equal parameters give equal values"
COMPARED = "the latest forward, two instances, writing to y and dx, memory order, need_dx"

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "in Fortran order": lambda a: np.array(a, order="F"),
    "with negative strides": lambda a: np.flip(np.flip(a).copy()),
    "with stride 0": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim else a,
}


@dataclass(frozen=True)
class Case:
    """The maker of layers, two inputs of one shape and one of another batch size, each with an upstream gradient."""

    maker: Maker
    x: np.ndarray
    dy: np.ndarray
    other_x: np.ndarray
    other_dy: np.ndarray
    longer_x: np.ndarray
    longer_dy: np.ndarray


def state_lines(maker: Maker, draw: Callable[[tuple[int, ...]], np.ndarray], x: np.ndarray, seed: int) -> list[Line]:
    """One line per test, in the layer's own dtype and to the bit, except where the order of a sum may change."""
    rng = np.random.default_rng([seed, 6])

    def pair(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        x = draw(shape).astype(maker.dtype)
        dy = np.asarray(rng.normal(size=np.shape(maker.fresh().forward(x.copy()))))
        return x, dy.astype(maker.dtype)

    longer = (x.shape[0] + 1, *x.shape[1:])
    try:
        case = Case(maker, *pair(x.shape), *pair(x.shape), *pair(longer))
    except (Exception, SystemExit) as error:
        return [Line("FAIL", f"forward with N = {longer[0]}", f"raised {type(error).__name__}: {error}")]
    tests: dict[str, Callable[[Case], str]] = {
        "x, dy and the parameters stay as they were": _leaves_arguments,
        "a second backward gives the same dx": _repeats,
        "gradients are added in place": _adds_in_place,
        f"backward belongs to the latest forward (N = {x.shape[0]} and {longer[0]})": _latest,
        "two instances share nothing": _shares_nothing,
        "y and dx are fresh arrays: writing to them changes nothing": _survives_scribbling,
        "float32 in, float32 out": _keeps_float32,
        **{f"x and dy {words} give the same": partial(_ignores_layout, layout=layout)
           for words, layout in LAYOUTS.items()},
    }
    differs = maker.differs(case.x)
    if not differs:
        lines = [attempt(claim, partial(test, case)) for claim, test in tests.items()]
        return [*lines, *_view(case), *_without_dx(case), _without_forward(case)]
    lines = [attempt(claim, partial(test, case)) for claim, test in tests.items() if test in ALONE]
    return [Line("FAIL", EQUAL, differs), *lines, Line("NOTE", "what compares two layers is left out", COMPARED),
            _without_forward(case)]


def _leaves_arguments(case: Case) -> str:
    before = {"x": case.x, "dy": case.dy, **case.maker.values}
    for layout in (np.copy, LAYOUTS["in Fortran order"]):
        specimen = case.maker.fresh()
        x, dy = layout(case.x), layout(case.dy)
        after = {"x": x, "dy": dy, **{name: param.value for name, param in specimen.params.items()}}
        steps = {"forward": partial(specimen.forward, x), "backward": partial(specimen.target.backward, dy)}
        for step, call in steps.items():
            call()
            for name in after:
                wrong = unlike(after, {name: before[name]})
                if wrong:
                    return f"{step} writes into {name}: {wrong} afterwards; work on a copy"
    return ""


def _repeats(case: Case) -> str:
    """To the bit; what the gradients of the parameters do then, `check` has looked at."""
    specimen = case.maker.fresh(np.float64)
    x, dy = case.x.astype(np.float64), case.dy.astype(np.float64)
    once = specimen.run(x, dy)
    return unlike({"x": specimen.pull(dy)["x"]}, {"x": once["x"]})


def _adds_in_place(case: Case) -> str:
    """A model packs all gradients into one vector; a layer that rebinds p.grad drops out of it unnoticed."""
    specimen = case.maker.fresh()
    before = {name: param.grad for name, param in specimen.params.items() if param.grad is not None}
    specimen.run(case.x, case.dy)
    rebound = [name for name, grad in before.items() if specimen.params[name].grad is not grad]
    return f"{', '.join(rebound)}: not in place, grad is another array after backward; use grad +=" if rebound else ""


def _latest(case: Case) -> str:
    """Another x of the same size first: what a wrong gradient then is can be told."""
    first, other, longer = (case.x, case.dy), (case.other_x, case.other_dy), (case.longer_x, case.longer_dy)
    for (x_a, dy_a), (x_b, dy_b) in ((first, other), (first, longer), (longer, first)):
        specimen = case.maker.fresh()
        specimen.run(x_a, dy_a)
        specimen.forward(x_a)
        got = specimen.run(x_b, dy_b)
        wrong = unlike(got, case.maker.fresh().run(x_b, dy_b))
        if wrong and x_a.shape == x_b.shape and not unlike(got, case.maker.fresh().run(x_a, dy_b)):
            return f"{wrong}: the gradient belongs to an earlier forward, with another x (a cache that is not renewed)"
        if wrong:
            return f"{wrong} " + ("with another x of the same size" if x_a.shape == x_b.shape else
                                  f"when N goes from {len(x_a)} to {len(x_b)}")
    return ""


def _shares_nothing(case: Case) -> str:
    a, b = case.maker.fresh(), case.maker.fresh()
    a.clear()
    b.clear()
    a.forward(case.x)
    b.forward(case.other_x)
    got = a.pull(case.dy)
    wrong = unlike(got, case.maker.fresh().run(case.x, case.dy))
    if wrong and not unlike(got, case.maker.fresh().run(case.other_x, case.dy)):
        return f"{wrong}: the first layer's gradient is that of the second one's x; something is shared between two " \
               "instances (an attribute of the class, a global buffer)"
    wrong = wrong or unlike(b.pull(case.other_dy), case.maker.fresh().run(case.other_x, case.other_dy))
    return f"{wrong}: something is shared between two instances" if wrong else ""


def _survives_scribbling(case: Case) -> str:
    """The layer above may work in place on y, the layer below on dx; x itself is kept by reference and left alone."""
    specimen = case.maker.fresh()
    x, dy = case.x.copy(), case.dy.copy()
    y = specimen.forward(x)
    _scribble(y)
    if not case.maker.npaes:
        x[...] = case.x  # y may be a view of it, which is noted
    specimen.clear()
    dx = specimen.target.backward(dy)
    got = {"x": np.array(dx), **specimen.grads()}
    _scribble(dx)
    if not case.maker.npaes:
        dy[...] = case.dy  # as for x
    wrong = unlike(got, case.maker.fresh().run(case.x, case.dy)) or unlike({"dy": dy}, {"dy": case.dy})
    if not np.array_equal(x, case.x):
        return VIEW
    if wrong:
        return f"{wrong} after writing to y: forward returns its own cache; keep a copy"
    specimen.clear()
    wrong = unlike(specimen.pull(dy), got)
    return f"{wrong} in the next backward, after writing to dx: backward returns its own cache" if wrong else ""


def _view(case: Case) -> list[Line]:
    """npae's own layers promise a fresh y and dx; others may do without where nobody writes to them."""
    if case.maker.npaes:
        return []
    x, dy, layer = case.x.copy(), case.dy.copy(), case.maker.fresh()
    views = [VIEW] if np.may_share_memory(x, layer.forward(x)) else []
    views += ["dx is a view of dy: return a copy"] if np.may_share_memory(dy, layer.target.backward(dy)) else []
    return [Line("NOTE", "y and dx are arrays of their own", "; ".join(views))] if views else []


def _scribble(array: np.ndarray) -> None:
    if isinstance(array, np.ndarray) and array.flags.writeable:
        array[...] = SCRIBBLE


def _keeps_float32(case: Case) -> str:
    specimen = case.maker.fresh(np.float32)
    y = specimen.forward(case.x.astype(np.float32))
    if np.asarray(y).dtype != np.float32:
        return f"{np.asarray(y).dtype} comes out of float32 as y"
    dx = specimen.target.backward(case.dy.astype(np.float32))
    arrays = {"y": y, "dx": dx, **{f"the gradient of {name}": grad for name, grad in specimen.grads().items()}}
    wrong = [f"{np.asarray(a).dtype} comes out of float32 as {name}" for name, a in arrays.items()
             if np.asarray(a).dtype != np.float32]
    return ", ".join(wrong)


def _ignores_layout(case: Case, layout: Callable[[np.ndarray], np.ndarray]) -> str:
    x, dy = layout(case.x.astype(np.float64)), layout(case.dy.astype(np.float64))
    got, want = case.maker.fresh(np.float64), case.maker.fresh(np.float64)
    wrong = unlike({"y": np.array(got.forward(x))}, {"y": np.array(want.forward(x.copy(order="C")))}, REORDERED_RTOL)
    if wrong:
        return f"{wrong}: forward takes the memory order of x for that of C"
    wrong = unlike(got.run(x, dy), want.run(x.copy(order="C"), dy.copy(order="C")), REORDERED_RTOL)
    return f"{wrong}: backward takes the memory order of x or dy for that of C" if wrong else ""


ALONE = (_leaves_arguments, _repeats, _adds_in_place, _keeps_float32)
"""The tests that need one layer alone."""


def _without_dx(case: Case) -> list[Line]:
    """A net asks its first layer for the gradients of the parameters alone; that one must be able to give them.

    A layer of one's own that takes no need_dx is not asked.
    """
    claim = "backward(dy, need_dx=False) gives the same gradients"
    specimen = case.maker.fresh()
    takes = inspect.signature(specimen.target.backward).parameters
    if "need_dx" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        note = Line("NOTE", claim, "this layer's backward takes no need_dx; in a net of npae it has to")
        return [note] if case.maker.npaes else []

    def test() -> str:
        specimen.forward(case.x)
        specimen.target.backward(case.dy, need_dx=False)
        want, got = case.maker.fresh().run(case.x, case.dy), specimen.grads()
        zero = [name for name in got if np.any(want[name]) and not np.any(got[name])]
        if zero:
            return f"the gradient of {', '.join(zero)} is zero: need_dx is about dx alone"
        return unlike(got, {name: want[name] for name in specimen.params})

    return [attempt(claim, test)]


def _without_forward(case: Case) -> Line:
    """An error in words is best; a layer of one's own that does something else is told so, and no more."""
    claim = "backward without a forward is an error"
    try:
        case.maker.fresh().target.backward(case.dy)
    except (Exception, SystemExit) as error:
        return Line("PASS", claim, type(error).__name__)
    return Line("NOTE", claim, "this layer gives a result instead")
