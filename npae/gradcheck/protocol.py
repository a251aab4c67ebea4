"""Everything at once for a layer of one's own: gradient, adjoint, linearity, state, and a reference for its values.
A gradient check alone sees neither a wrong forward nor a stale cache nor a gradient that is overwritten."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from npae.gradcheck.contract import trouble
from npae.gradcheck.diagnosis import explain_values, layer_facts
from npae.gradcheck.dot_test import adjoint_lines
from npae.gradcheck.gradient import check
from npae.gradcheck.report import Line, Report, attempt
from npae.gradcheck.specimen import REORDERED_RTOL, Maker, Specimen, unlike
from npae.gradcheck.state import state_lines
from npae.gradcheck.verdicts import Verdict

LINEARITY_RTOL = 1e-10
"""Of the largest term in 2 B(g1) - 3 B(g2): rounding in float64 with six digits to spare for long sums."""
REFERENCE_RTOL = 1e-10
"""Of the largest reference value: two ways of summing agree far better, two formulas far worse."""
FEW_ENTRIES = 10
"""Entries per parameter in the second gradient check, that with N = 1."""
POINTS = 10
"""Inputs drawn at most until one tells something: all units of a small ReLU layer may be dead at a random point."""
REFUTED = {Verdict.FAIL, Verdict.NONDETERMINISTIC}
"""Verdicts that no other point can take back."""

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal inputs: both signs, no two alike."""
    return rng.normal(size=shape)


def check_layer(make_layer: Callable[[], Any], input_shape: tuple[int, ...], *,
                reference: Callable[..., np.ndarray] | None = None, rng: np.random.Generator | None = None,
                draw: Draw = gaussian, entries: int | None = None, seed: int = 0,
                expect_zero: Collection[str] = ()) -> Report:
    """Put a layer through the whole protocol; it needs forward(x), backward(dy) and params (with value and grad).

    gradient    every entry of x and of each parameter against differences; again with N = 1
    adjoint     the dot test, in whatever the layer is affine in
    batch       a batch's gradient is the sum of its images' gradients, where forward treats each image alone
    linearity   backward(0) = 0 and backward(2 g1 - 3 g2) = 2 backward(g1) - 3 backward(g2)
    state       nothing of the caller's is written to, gradients add up, no stale cache, nothing shared between
                instances, memory order and batch size do not matter, float32 stays float32
    reference   reference(x, *values of params) -> y, written independently, gives the same values

    Shapes: input_shape is that of a batch, (N, ...). `make_layer()` returns a new layer each time; the parameter
    values of the first are copied to all others, constant ones replaced by small random numbers. `draw(rng, shape)`
    makes inputs for a layer that does not take Gaussian ones; `rng` is for the layer's own noise (give_rng). A layer
    has to read p.value each time: in a view of it that it keeps (self.Wt = p.value.T) no difference can be made.
    `expect_zero` names what has a gradient of zero by design: ("x",) of an embedding, whose x are indices.
    What forward or backward raises is one line of the report, and the rest is left out.
    Raises: ValueError if make_layer cannot be called, or gives the same object twice, or no layer; for an input_shape
    without entries, a seed below 0, entries that are no whole number.
    """
    _numbers(input_shape, entries, seed)
    maker = Maker(make_layer, rng, seed)
    data = np.random.default_rng([seed, 5])
    for _ in range(POINTS):
        x = np.asarray(draw(data, tuple(input_shape)), dtype=np.float64)
        stuck = None if maker.npaes else stuck_line(maker.fresh(np.float64), x)
        if stuck is not None:
            return Report(f"Layer check of {maker.name}, x {x.shape}", lines=(stuck,))
        gradient = check(maker.fresh(np.float64).target, x, rng=rng, entries=entries, seed=seed,
                         expect_zero=expect_zero)
        verdicts = {row.verdict for row in gradient.rows}
        if Verdict.VACUOUS not in verdicts or verdicts & REFUTED:
            break
    lines = [*gradient.lines, *adjoint_lines(maker.fresh(np.float64), x, seed),
             _one_image(maker, x, seed, expect_zero), _other_points(maker, draw, x.shape, entries, expect_zero, seed),
             _image_by_image(maker, x, seed)]
    lines += [attempt("backward(0) is exactly 0", lambda: _zero(maker, x), "linearity"),
              attempt("backward is linear in dy", lambda: _superposition(maker, x, seed), "linearity")]
    lines += state_lines(maker, lambda shape: np.asarray(draw(data, shape)), x, seed)
    if reference is not None:
        lines.append(attempt("forward gives the values of the reference", lambda: _reference(maker, x, reference),
                             "reference"))
    return Report(f"Layer check of {maker.name}, x {x.shape}", gradient.rows, tuple(lines), gradient.explanations)


def stuck_line(specimen: Specimen, x: np.ndarray) -> Line | None:
    """A line where forward or backward does not come to an end with an array; nothing else can be asked then."""
    specimen.rewind()
    wrong = trouble(specimen.target, x)
    return Line("FAIL", "forward and backward run", wrong, "gradient") if wrong else None


def _numbers(input_shape: Any, entries: Any, seed: Any) -> None:
    """Raises ValueError for sizes, entries and a seed with which nothing can be drawn."""
    sizes = input_shape if isinstance(input_shape, tuple | list) else ()
    if not sizes or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise ValueError(f"input_shape is that of a batch, whole numbers above 0 such as (4, 5), got {input_shape!r}")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed is a whole number from 0 on, got {seed!r}")
    if entries is not None and (not isinstance(entries, int | np.integer) or entries < 1):
        raise ValueError(f"entries is a whole number of at least 1, or None for all up to 2,000, got {entries!r}")


def _one_image(maker: Maker, x: np.ndarray, seed: int, expect_zero: Collection[str]) -> Line:
    """One image is an ordinary batch; squeeze() and broadcasting like to disagree. Images at which nothing can be
    verified (dead units, a kink) say neither yes nor no."""
    claim = "gradient check with N = 1"
    open_questions = ""
    for image in range(len(x)):
        try:
            report = check(maker.fresh(np.float64).target, x[image:image + 1], rng=maker.rng, entries=FEW_ENTRIES,
                           seed=seed, expect_zero=expect_zero)
        except (Exception, SystemExit) as error:
            return Line("FAIL", claim, f"raised {type(error).__name__}: {error}", "gradient")
        if report.ok:
            return Line("PASS", claim, "", "gradient")
        open_questions = "; ".join([*report.wrong, *report.explanations])
        if REFUTED & {row.verdict for row in report.rows}:
            return Line("FAIL", claim, open_questions, "gradient")
    return Line("NOTE", claim, open_questions, "gradient")


def _zero(maker: Maker, x: np.ndarray) -> str:
    specimen = maker.fresh(np.float64)
    result = specimen.run(x, np.zeros(np.shape(specimen.forward(x))))
    wrong = [f"{name} is not" for name, value in result.items() if np.any(value != 0)]
    return ", ".join(wrong)


def _superposition(maker: Maker, x: np.ndarray, seed: int) -> str:
    """Backward is a linear map of dy, whatever the layer is."""
    specimen = maker.fresh(np.float64)
    shape, rng = np.shape(specimen.forward(x)), np.random.default_rng([seed, 7])
    g1, g2 = np.asarray(rng.normal(size=shape)), np.asarray(rng.normal(size=shape))
    one, two, both = (specimen.run(x, np.asarray(g)) for g in (g1, g2, 2 * g1 - 3 * g2))
    for name, found in both.items():
        terms = 2 * one[name], 3 * two[name]
        gap, size = _largest(found - (terms[0] - terms[1])), max(map(_largest, terms))
        if not gap <= LINEARITY_RTOL * size:
            return f"{name} is off by {gap:.1e}, {LINEARITY_RTOL * size:.1e} allowed"
    return ""


def _reference(maker: Maker, x: np.ndarray, reference: Callable[..., np.ndarray]) -> str:
    """Values against a definition written independently: a gradient check cannot see a wrong forward."""
    specimen = maker.fresh(np.float64)
    y = np.array(specimen.forward(x.copy()))
    values = {name: np.array(param.value) for name, param in specimen.params.items()}
    expected = np.asarray(reference(x.copy(), *values.values()))
    if y.shape != expected.shape:
        return f"y has shape {y.shape}, the reference {expected.shape}"
    gap, allowed = _largest(y - expected), REFERENCE_RTOL * _largest(expected)
    if gap <= allowed:
        return ""
    facts = layer_facts(specimen.target, x, y, specimen.params)
    said = explain_values(y, expected, {"x": x, **values}, reference, facts)
    return f"off by {gap:.1e}, {allowed:.1e} allowed" + (f": {said}" if said else "")


def _other_points(maker: Maker, draw: Draw, shape: tuple[int, ...], entries: int | None,
                  expect_zero: Collection[str], seed: int) -> Line:
    """What one point does not visit (the upper end of a clip, a dead unit, the other side of a kink) another may.

    Gaussian inputs are drawn wider, too; what is drawn by somebody else stays as it is drawn.
    """
    claim, rng = "gradient check at three other points", np.random.default_rng([seed, 15])
    for size in (1, 3, 0.3) if draw is gaussian else (1, 1, 1):
        x = size * np.asarray(draw(rng, shape), dtype=np.float64)
        try:
            few = min(FEW_ENTRIES, entries or FEW_ENTRIES)
            report = check(maker.fresh(np.float64).target, x, rng=maker.rng, entries=few,
                           expect_zero=expect_zero, seed=seed + 1)
        except Exception as error:
            return Line("FAIL", claim, f"raised {type(error).__name__}: {error}", "gradient")
        if REFUTED & {row.verdict for row in report.rows}:
            return Line("FAIL", claim, "; ".join([*report.wrong, *report.explanations]), "gradient")
    return Line("PASS", claim, "", "gradient")


def _image_by_image(maker: Maker, x: np.ndarray, seed: int) -> Line:
    """Where forward treats each image alone, backward has to: a batch's gradient is the sum of its images'.

    Every run is a fresh layer's: what one remembers of another run is a question of its own.
    """
    claim = "a batch is its images one by one"
    y = np.array(maker.fresh(np.float64).forward(x.copy()))
    if maker.differs(x, np.float64):
        return Line("NOTE", claim, "not asked where two new layers differ", "batch")
    if maker.rng is not None or y.shape[:1] != x.shape[:1]:
        return Line("NOTE", claim, "not asked of a layer with noise, or with another number of rows", "batch")
    dy = np.asarray(np.random.default_rng([seed, 9]).normal(size=y.shape))
    mixed = []

    def test() -> str:
        alone = [np.array(maker.fresh(np.float64).forward(image[None])) for image in x]
        if unlike({"y": np.concatenate(alone)}, {"y": y}, REORDERED_RTOL):
            mixed.append(True)
            return ""
        whole = maker.fresh(np.float64).run(x.copy(), dy.copy())
        parts = [maker.fresh(np.float64).run(x[n:n + 1].copy(), dy[n:n + 1].copy()) for n in range(len(x))]
        together = {name: np.sum([part[name] for part in parts], axis=0) for name in whole if name != "x"}
        together["x"] = np.concatenate([np.atleast_1d(part["x"]) for part in parts])
        wrong = unlike(whole, together, REORDERED_RTOL)
        return f"{wrong} from the sum over its images" if wrong else ""

    line = attempt(claim, test, "batch")
    return Line("NOTE", claim, "forward mixes the images of a batch", "batch") if mixed else line


def _largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array), initial=0))
