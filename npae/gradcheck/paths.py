"""phi as a path that can be walked: one entry of one array moved at a time, in float64, float32 or complex128.
A complex path is proved analytic, or refused in a sentence, before a complex step is taken on it."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from npae.gradcheck.estimate import Estimate, derivative
from npae.gradcheck.methods import complex_step
from npae.gradcheck.scalar import at_layer, at_model, random_upstream
from npae.gradcheck.specimen import Specimen, copy_as
from npae.kernels import reference


@dataclass(frozen=True)
class Path:
    """phi of named arrays of one dtype, standing at a point; every sample moves an entry and puts it back."""

    arrays: dict[str, np.ndarray]
    evaluate: Callable[[], Any]
    """() -> phi at what the arrays hold now; a complex number where they are complex."""

    def at(self, name: str, index: tuple[int, ...], value: Any) -> Any:
        """phi with another value in one place."""
        array = self.arrays[name]
        kept = array[index]
        array[index] = value
        try:
            return self.evaluate()
        finally:
            array[index] = kept

    def complex_step(self, name: str, index: tuple[int, ...], scale: float) -> Estimate:
        """dphi of one entry, where the path is complex."""
        return complex_step(partial(self.at, name, index), float(self.arrays[name][index].real), scale)


def function_path(f: Callable[[Any], tuple[Any, Any]], theta: np.ndarray | Mapping[str, np.ndarray], dtype: Any,
                  name: str = "theta") -> Path:
    """phi = the value of f(theta) -> (value, gradient), theta (an array, or arrays by name) in another dtype."""
    several = isinstance(theta, Mapping)
    arrays = {key: np.array(array, dtype) for key, array in (dict(theta) if several else {name: theta}).items()}

    def evaluate() -> Any:
        return f({key: array.copy() for key, array in arrays.items()} if several else arrays[name].copy())[0]

    return Path(arrays, evaluate)


def target_path(target: Any, x: np.ndarray, dtype: Any, *, y: np.ndarray | None = None,
                rng: np.random.Generator | None = None, upstream: np.ndarray | None = None,
                branch: Any = None) -> Path:
    """phi = <upstream, f(x)> of a layer, or a model's loss, on a copy in another dtype, with the same noise each time.

    complex128 goes through the reference kernels. A `branch` (of the same target in float64) is held, where given.
    """
    complex_ = np.dtype(dtype).kind == "c"
    own = complex_ and hasattr(target, "walk")
    specimen = Specimen(target.to(np.complex128, kernels=reference) if own else copy_as(target, dtype), rng)
    if branch is not None:
        specimen.hold(branch)
    x = np.array(x, dtype, order="C")
    arrays = {name: param.value for name, param in specimen.params.items()}
    if hasattr(target, "loss"):
        return Path(arrays, lambda: specimen.loss(x, y)["loss"])
    return Path({"x": x, **arrays}, lambda: np.sum(upstream * specimen.forward(x)))


@dataclass(frozen=True)
class Claim:
    """A layer or a model in float64 at one point: phi, and the gradient that backward claims there."""

    path: Path
    claimed: dict[str, np.ndarray]
    upstream: np.ndarray | None
    """The random g of a layer's phi = <g, f(x)>; None for a model, whose loss is a number."""
    scale: float
    """S: the sum of phi's absolute terms, or the root of the sum of (a dphi/da)² where that is larger."""
    branch: Any
    specimen: Specimen


def claim(target: Any, x: np.ndarray, y: np.ndarray | None, rng: np.random.Generator | None, seed: int) -> Claim:
    """One forward and one backward of a float64 copy.

    Raises: ValueError for a gradient of another shape than its value.
    """
    x = np.array(x, np.float64, order="C")
    specimen, g = Specimen(copy_as(target, np.float64), rng), None
    if hasattr(target, "loss"):
        scalar = at_model(specimen, x, y)
    else:
        g = random_upstream(seed, np.shape(specimen.forward(x)))
        scalar = at_layer(specimen, x, g)
    for name, array in scalar.arrays.items():
        if scalar.claimed[name].shape != array.shape:
            raise ValueError(f"the gradient of {name} has shape {scalar.claimed[name].shape}, its value {array.shape}: "
                             "check(...) tells more")
    path = Path(scalar.arrays, lambda: scalar.evaluate()[0])
    return Claim(path, scalar.claimed, g, scalar.scale, specimen.branch(), specimen)


def complex_function(f: Callable[[Any], tuple[Any, Any]], theta: np.ndarray | Mapping[str, np.ndarray], *,
                     name: str = "theta", scale: float = 0.0, seed: int = 0) -> Path:
    """f(theta) -> (value, gradient) as a path for complex steps.

    `scale` is the sum of the absolute terms of the value (0: |value|).
    Raises: ValueError where f is not analytic on complex numbers: a result that is not complex, an imaginary part that
    is dropped (abs, astype(float)), an operation that takes no complex numbers, a step that differences refute.
    """
    return _proven(function_path(f, theta, np.complex128, name), getattr(f, "__name__", "the function"), scale, seed)


def complex_scalar(target: Any, x: np.ndarray, *, y: np.ndarray | None = None, rng: np.random.Generator | None = None,
                   upstream: np.ndarray | None = None, branch: Any = None, scale: float = 0.0,
                   seed: int = 0) -> Path:
    """A layer (with `upstream`) or a model as a path for complex steps; `path.complex_step(name, index, scale)`.

    A layer with a kink is refused; on a `branch` that is held it is smooth, and taken.
    Raises: ValueError, as `complex_function`; for a layer that has branches, by its name, where none is held.
    """
    name = type(target).__name__
    with _sentences(name):
        path = target_path(target, x, np.complex128, y=y, rng=rng, upstream=upstream, branch=branch)
    if branch is None:
        _refuse_branches(target, x, y, rng)
    return _proven(path, name, scale, seed)


def _refuse_branches(target: Any, x: np.ndarray, y: np.ndarray | None, rng: np.random.Generator | None) -> None:
    """Ask a copy in float64, after one forward, which of its layers have a branch."""
    specimen = Specimen(copy_as(target, np.float64), rng)
    x = np.array(x, np.float64)
    if hasattr(target, "loss"):
        specimen.loss(x, y)
    else:
        specimen.forward(x)
    made = specimen.target
    for layer in made.walk() if hasattr(made, "walk") else (made,):
        if hasattr(layer, "branch_signature") and _has_branch(layer.branch_signature(), top=hasattr(made, "walk")):
            raise ValueError(f"the complex step needs an analytic path, and {layer} has branches: hold them, or use "
                             "differences")


def _has_branch(signature: Any, top: bool) -> bool:
    """Does a layer tell of a branch? A net of npae's (a tuple) is asked child by child."""
    if isinstance(signature, tuple | list):
        return not top and any(_has_branch(inner, top) for inner in signature)
    return signature is not None


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """What complex numbers break on the way, as a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            yield
    except (TypeError, np.exceptions.ComplexWarning) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"the complex step needs an analytic path in NumPy, and {name} raised {type(error).__name__} "
                         f"({why}): use differences") from error


def _proven(path: Path, name: str, scale: float, seed: int) -> Path:
    """The path with refusals in words, after one look at whether Im phi(θ + i h d) / h is dphi/dd.

    An abs, a maximum or an argmax on the way drops or bends imaginary parts silently; the values at real arguments
    are right all the same, so differences of them in one random direction tell.
    """
    def evaluate() -> complex:
        with _sentences(name):
            phi = path.evaluate()
        if not np.iscomplexobj(phi) or np.size(phi) != 1:
            raise ValueError(f"the complex step needs an analytic path, and {name} turned complex numbers into "
                             f"{np.asarray(phi).dtype}: use differences")
        return complex(phi)

    rng = np.random.default_rng([seed, 8])
    start = {key: array.copy() for key, array in path.arrays.items()}
    d = {key: rng.normal(size=array.shape) / np.sqrt(max(1, array.size)) for key, array in start.items()}

    def along(s: complex) -> complex:
        for key, array in path.arrays.items():
            array[...] = start[key] + s * d[key]
        return evaluate()

    try:
        with np.errstate(all="ignore"):
            centre = along(0).real
            size = max(scale, abs(centre))
            difference = derivative(lambda s: (along(s).real, True), 0.0, centre, size)
            step = complex_step(along, 0.0, size)
    finally:
        for key, array in path.arrays.items():
            array[...] = start[key]
    if difference.finite and difference.smooth and not abs(difference.value - step.value) <= difference.tol + step.tol:
        raise ValueError(f"the complex step needs an analytic path, and along one direction {name} has the derivative "
                         f"{difference.value:.6g} by differences but {step.value:.6g} by a complex step: use "
                         "differences")
    return Path(path.arrays, evaluate)
