"""The gradient check proper: every derivative that backward claims against the one that differences find.
A layer is made a scalar by a random upstream gradient, phi = <g, f(x)>; a model is one already, phi = loss."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from npae.gradcheck.diagnosis import diagnose_function, diagnose_layer, diagnose_model
from npae.gradcheck.diagnosis.rows import call
from npae.gradcheck.directions import FEW, along_directions
from npae.gradcheck.estimate import EPS, RESOLUTION, SAFETY_ROUNDING
from npae.gradcheck.facts import Facts
from npae.gradcheck.kinks import kink_lines
from npae.gradcheck.methods import METHODS
from npae.gradcheck.paths import Path, complex_function, complex_scalar
from npae.gradcheck.report import Line, Report, attempt
from npae.gradcheck.scalar import Scalar, at_arrays, at_layer, at_model, random_upstream
from npae.gradcheck.specimen import REORDERED_RTOL, Specimen, copy_as, unlike
from npae.gradcheck.verdicts import Row, Verdict, judge

LAYER_ENTRIES = 2000
"""Entries checked per parameter of a layer unless asked otherwise: all of a small layer, a sample of a large one."""
MODEL_ENTRIES = 40
"""Entries checked per parameter of a model unless asked otherwise; six losses each."""
RESOLUTIONS = {"forward": 1e-2, "central": 1e-3}
"""Part of the gradient's size below which these two must know it: rounding leaves them no more. They verify less."""


@dataclass(frozen=True)
class Way:
    """How derivatives are found: by which estimate, along directions or not, and the path of complex steps."""

    method: str
    fast: bool
    path: Path | None

    def __post_init__(self) -> None:
        if self.method != "complex" and self.method not in METHODS:
            raise ValueError(f"no estimate is called {self.method!r}: use one of {', '.join(METHODS)}, complex")
        if self.fast and self.method != "richardson":
            raise ValueError(f"the fast mode takes Richardson's differences along directions, not {self.method}: leave "
                             "one of the two out")


def check_function(f: Callable[[Any], tuple[float, Any]], theta: np.ndarray | Mapping[str, np.ndarray], *,
                   name: str = "theta", terms: float | None = None, entries: int | None = None, seed: int = 0,
                   method: str = "richardson", fast: bool = False, expect_zero: Collection[str] = (),
                   facts: Facts | None = None) -> Report:
    """Check f(theta) -> (value, gradient) entry by entry, in float64.

    Shapes: theta any array, the gradient the same; or a dict of arrays, then the gradient a dict with the same names;
    value a number. `entries` is how many entries to sample of each (None: all, up to 2,000); `fast` looks at three
    random directions instead; `method` is richardson, five-point, central, forward or complex; `terms` is the sum of
    the absolute terms of the value where they cancel (None: |value|); `facts` are numbers and arrays that an
    explanation of a wrong gradient may name.

    >>> report = check_function(lambda t: (float((t**3).sum()), 3 * t**2), np.array([1.0, -2.0]))
    >>> report.ok
    True
    >>> wrong = check_function(lambda t: (float((t**3).sum()), 2 * t**2), np.array([1.0, -2.0]))
    >>> wrong.wrong[0], wrong.explanations[0]
    ('theta: 2 of 2 entries FAIL', 'dtheta is 2/3 × the numeric gradient in all 2 entries')
    """
    for array in theta.values() if isinstance(theta, Mapping) else (theta,):
        if np.iscomplexobj(array):
            raise ValueError(f"a derivative needs real numbers, got theta of dtype {np.asarray(array).dtype}")
    if isinstance(theta, Mapping) and not theta:
        raise ValueError("there is nothing to check: theta has 0 arrays")
    theta = {key: np.array(array, dtype=np.float64) for key, array in theta.items()} if isinstance(theta, Mapping) \
        else np.array(theta, dtype=np.float64)
    centre, again = (at_arrays(f, theta, name, terms) for _ in range(2))
    path = complex_function(f, theta, name=name, scale=centre.scale, seed=seed) if method == "complex" else None
    way = Way(method, fast, path)
    rows = _rows(centre, again, LAYER_ENTRIES if entries is None else entries, seed, expect_zero, way)
    told = _explained(lambda: diagnose_function(centre.claimed, centre.arrays, rows, facts or Facts()))
    lines = tuple(_unlooked(None, centre, rows, seed))
    return Report(f"Gradient check of {getattr(f, '__name__', 'a function')}", rows, lines, told)


def check(target: Any, x: np.ndarray, *, y: np.ndarray | None = None, rng: np.random.Generator | None = None,
          entries: int | None = None, seed: int = 0, upstream: np.ndarray | None = None,
          method: str = "richardson", fast: bool = False, hold_branches: bool | None = None,
          expect_zero: Collection[str] = (), facts: Facts | None = None) -> Report:
    """Check the backward pass of a layer (forward, backward, params) or of a model (loss, backward, params).

    The check works on a float64 copy; target, x and rng stay as they are. rng is handed to noise layers (give_rng)
    or to the model's loss, and rewound before each forward. Of each parameter, and of a layer's input, `entries`
    entries are looked at (None: up to 2,000 of a layer's, 40 of a model's); with `fast` all of them at once, along
    three random directions, and where these disagree the wrong entries are searched for. `method` is how a derivative
    is estimated: richardson, five-point, central, forward, or complex (on the reference kernels). With
    `hold_branches` the masks and winners of the centre point are held while differencing, which leaves the gradient
    as it is and makes phi smooth (None: for models, along directions, and for complex steps). `expect_zero` names
    parameters whose gradient is zero by design. Beside the differences a second backward is made, which has to add
    the same gradients again. What is wrong is explained in words; `facts` are numbers and arrays that an explanation
    may name, beside those that the target tells of itself.

    Raises: ValueError if x is not real-valued, if an argument does not belong to the kind of target, for a method that
    does not exist, or a complex step on a path that is not analytic.
    """
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"a derivative needs real numbers, got x of dtype {x.dtype}; convert it (pictures: x / 255)")
    x = np.array(x, dtype=np.float64, order="C")
    specimen, facts = Specimen(copy_as(target, np.float64), rng), facts or Facts()
    title = f"Gradient check of {type(target).__name__}, x {x.shape}"
    is_model = hasattr(target, "loss")
    if is_model:
        if upstream is not None:
            raise ValueError("a model's loss is a scalar and has no upstream gradient; leave upstream out")
        measure, cap, lines, g = partial(at_model, specimen, x, y), MODEL_ENTRIES, [], None
    else:
        if y is not None:
            raise ValueError("a layer takes no y; leave it out, or check the model")
        out = np.asarray(specimen.forward(x))
        g = random_upstream(seed, out.shape) if upstream is None else np.asarray(upstream, np.float64)
        if g.shape != out.shape:
            raise ValueError(f"upstream has the shape {g.shape}, forward gave y of shape {out.shape}: make them alike")
        measure, cap, lines = partial(at_layer, specimen, x, g), LAYER_ENTRIES, [_keeps_float64(out)]
    centre, again = measure(), measure()
    if specimen.params:
        lines.append(attempt("a second backward adds the same gradients again", partial(_adds, specimen, centre)))
    if hold_branches is None:
        hold_branches = (is_model or fast or method == "complex") and hasattr(target, "hold")
    if hold_branches:
        lines.append(_hold(specimen, centre))
    way = Way(method, fast, complex_scalar(
        target, x, y=y, rng=rng, upstream=g, branch=specimen.branch() if hold_branches else None, scale=centre.scale,
        seed=seed) if method == "complex" else None)
    rows = _rows(centre, again, cap if entries is None else entries, seed, expect_zero, way)
    lines += kink_lines(specimen, centre, rows)
    lines += _unlooked(specimen, centre, rows, seed)
    told = _explained(lambda: diagnose_model(specimen, x, y, centre.claimed, rows, facts) if is_model else
                      diagnose_layer(specimen, x, np.asarray(g), centre.claimed, rows, facts))
    return Report(title, rows, tuple(lines), told)


def _explained(diagnose: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """Wrong code may break on what the diagnosis tries with it; the report of the check stands all the same."""
    try:
        return diagnose()
    except Exception as error:
        return (f"no explanation was found: what was tried for one raised {type(error).__name__}: {error}",)


def _keeps_float64(out: np.ndarray) -> Line:
    """A cast to float32 on the way would cost nine of sixteen digits, and differences would see noise."""
    status = "PASS" if out.dtype == np.float64 else "FAIL"
    return Line(status, "float64 in, float64 out", f"forward gave {out.dtype}")


def _adds(specimen: Specimen, centre: Scalar) -> str:
    """2 dW, to rounding, since a gradient may be added to image by image."""
    centre.evaluate()
    specimen.clear()
    for _ in range(2):
        centre.backward()
    twice = specimen.grads()
    wrong = unlike(twice, {name: 2 * centre.claimed[name] for name in specimen.params}, REORDERED_RTOL)
    kept = [name for name in specimen.params if np.any(twice[name]) and not unlike(
        {name: twice[name]}, {name: centre.claimed[name]}, REORDERED_RTOL)]
    if kept:
        return (f"{wrong}: {', '.join(map(call, kept))}: the gradient is overwritten, after two backward passes it is "
                "that of one; = stands where += belongs")
    return wrong


def _hold(specimen: Specimen, centre: Scalar) -> Line:
    """From here on phi is the smooth function that goes through the centre point on the centre's branches."""
    specimen.hold(specimen.branch())
    change = abs(centre.evaluate()[0] - centre.value)
    status = "PASS" if change <= SAFETY_ROUNDING * EPS * centre.scale else "FAIL"
    return Line(status, "holding the branches leaves the value as it is", f"changed by {change:.1e}", "gradient")


def _unlooked(specimen: Specimen | None, scalar: Scalar, rows: tuple[Row, ...], seed: int) -> list[Line]:
    """Of an array too large to look at every entry, all of them together, along random directions.

    These cross kinks that single entries do not, so the branches are held for as long as it takes.
    """
    large = [row for row in rows if not row.directions and 0 < len(row.entries) < row.size and row.ok]
    if not large:
        return []
    lent = specimen is not None and not specimen.held and hasattr(specimen.target, "hold")
    if lent and specimen is not None:
        scalar.evaluate()
        specimen.hold(specimen.branch())
    try:
        return [_all_entries(row, along_directions(row.name, scalar, scalar.evaluate()[0],
                                                   np.random.default_rng([seed, 8]), row.expect_zero))
                for row in large]
    finally:
        if lent and specimen is not None:
            specimen.release()


def _all_entries(row: Row, found: Row) -> Line:
    claim = f"all {row.size:,} entries of {row.name} along {found.directions} random directions"
    if found.count(Verdict.FAIL):
        return Line("FAIL", claim, found.explain(), "gradient")
    if found.ok:
        return Line("PASS", claim, f"|a-r|/tol {found.worst_ratio:.2g}", "gradient")
    return Line("NOTE", claim, found.explain(), "gradient")


def _rows(scalar: Scalar, again: Scalar, entries: int, seed: int, expect_zero: Collection[str],
          way: Way) -> tuple[Row, ...]:
    """One row for each array. `again` is the same measured a second time, and has to have the same bits."""
    unknown = sorted(set(expect_zero) - set(scalar.arrays))
    if unknown:
        raise ValueError(f"expect_zero names {unknown}, but there are {sorted(scalar.arrays)}")
    if entries < 1:
        raise ValueError(f"entries is {entries}; at least 1 entry of each parameter has to be checked")
    centre = scalar.evaluate()[0]
    picker = np.random.default_rng([seed, 1])
    rows = []
    for name, array in scalar.arrays.items():
        indices = _choose(array.shape, entries, picker, scalar.claimed[name])
        row = _refuse(name, scalar, again)
        if row is None and way.fast and array.size > FEW:
            row = along_directions(name, scalar, centre, np.random.default_rng([seed, 8]), name in expect_zero)
        rows.append(row or _differentiate(name, scalar, centre, indices, name in expect_zero, way))
    return tuple(rows)


def _refuse(name: str, scalar: Scalar, again: Scalar) -> Row | None:
    """A row without entries where there is nothing to compare: no determinate value, or no gradient of that shape."""
    shape, claimed = scalar.arrays[name].shape, scalar.claimed[name]
    verdict = Verdict.NONDETERMINISTIC
    if not np.array_equal(scalar.value, again.value, equal_nan=True):
        reason = (f"NONDETERMINISTIC, two equal runs gave {scalar.value!r} and {again.value!r}; x or a parameter is "
                  "written to, or noise does not come from the generator given by give_rng(rng) or loss(..., rng=rng)")
    elif claimed.shape != shape or not np.issubdtype(claimed.dtype, np.floating):
        verdict = Verdict.FAIL
        reason = f"the value has shape {shape}, backward gave {claimed.dtype} of shape {claimed.shape}"
    elif not np.array_equal(claimed, again.claimed[name], equal_nan=True):
        reason = "NONDETERMINISTIC, backward gave two different gradients in two equal runs"
    else:
        return None
    return Row(name, shape, refused=verdict, reason=reason)


def _choose(shape: tuple[int, ...], entries: int, picker: np.random.Generator,
            claimed: np.ndarray) -> list[tuple[int, ...]]:
    """All indices, or a random sample in order; not one of zeros alone where there is more to look at."""
    size = math.prod(shape)
    flat = np.arange(size) if size <= entries else np.sort(picker.choice(size, entries, replace=False))
    if size > entries and claimed.shape == shape:
        there = np.flatnonzero(claimed)
        if len(there) and not np.any(claimed.ravel()[flat]):
            some = picker.choice(there, min(len(there), (entries + 1) // 2), replace=False)
            flat = np.union1d(flat[:entries - len(some)], some)
    return [tuple(int(i) for i in np.unravel_index(k, shape)) for k in flat]


def _differentiate(name: str, scalar: Scalar, centre: float, indices: list[tuple[int, ...]], expect_zero: bool,
                   way: Way) -> Row:
    """Move one entry at a time, in place, and put it back whatever happens."""
    array, claimed = scalar.arrays[name], scalar.claimed[name]
    found = []
    with np.errstate(all="ignore"):  # a step may leave the domain of a logarithm, say; it is halved then
        scale = scalar.scale
        size = float(np.sqrt(np.mean(np.square(claimed))))
        for index in indices:
            if way.path is not None:
                found.append((index, float(claimed[index]), way.path.complex_step(name, index, scale)))
                continue
            t = float(array[index])

            def sample(value: float, index: tuple[int, ...] = index) -> tuple[float, bool]:
                array[index] = value
                return scalar.evaluate()

            try:
                estimate = METHODS[way.method](sample, t, centre, scale, size)
            finally:
                array[index] = t
            found.append((index, float(claimed[index]), estimate))
    return judge(name, array.shape, found, expect_zero, RESOLUTIONS.get(way.method, RESOLUTION))
