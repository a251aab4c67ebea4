"""A layer or model under examination: a private copy in the dtype of the test, whose noise is the same each time.
Nothing is asked of it but the methods themselves; what it inherits from does not matter."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npae.gradcheck.contract import a_or_an, answers, is_npaes, named_params

REORDERED_RTOL = 1e-10
"""Of the largest entry, in float64: the same terms summed in another order, and nothing more."""


def copy_as(target: Any, dtype: Any) -> Any:
    """A deep copy with parameters and gradients of another dtype; the target keeps its own.

    `target.to(dtype=...)` is used where there is one. Otherwise the copy is told beforehand which arrays stand for
    which, so that a layer's own second reference to p.value leads to the new array too.
    Raises: ValueError as `named_params`.
    """
    params = named_params(target).values()
    if hasattr(target, "to"):
        made = target.to(dtype=dtype)
        return copy.deepcopy(made) if made is target else made
    arrays = [array for param in params for array in (param.value, param.grad) if isinstance(array, np.ndarray)]
    stand_ins: dict[int, Any] = {id(array): array.astype(dtype) for array in arrays}
    return copy.deepcopy(target, stand_ins)


class Specimen:
    """A layer or model with the harness of a test around it: noise rewound before each forward, gradients as copies.

    Without `rng` noise layers are told so (give_rng(None)): they are the identity.
    Raises: ValueError as `named_params`; if forward(x) or backward(dy) (of a model loss and backward()) cannot be
    called so; if rng is no np.random.Generator.
    """

    def __init__(self, target: Any, rng: np.random.Generator | None = None):
        self.target = target
        self.params = named_params(target)
        answers(target)
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise ValueError(f"rng is {a_or_an(rng)}, a generator belongs there: np.random.default_rng(0)")
        self.rng = copy.deepcopy(rng)  # the caller's generator must not move
        self._start: Any = None if rng is None else rng.bit_generator.state
        self.held = False
        if hasattr(target, "give_rng"):
            target.give_rng(self.rng)

    def rewind(self) -> None:
        """Put the generator where it was, so that the next forward draws the same noise."""
        if self.rng is not None:
            self.rng.bit_generator.state = self._start

    def forward(self, x: np.ndarray) -> np.ndarray:
        """A layer's forward, the same noise each time."""
        self.rewind()
        return self.target.forward(x)

    def loss(self, x: np.ndarray, y: np.ndarray | None) -> dict[str, float]:
        """A model's loss and its terms, the same noise each time."""
        self.rewind()
        labels = () if y is None else (y,)
        noise = {} if self.rng is None else {"rng": self.rng}
        return self.target.loss(x, *labels, **noise)

    def clear(self) -> None:
        """Zero the gradients where they are."""
        for param in self.params.values():
            if isinstance(param.grad, np.ndarray):
                param.grad[...] = 0
            elif param.grad is not None:  # a layer of one's own may keep a number
                param.grad = np.zeros_like(param.value)

    def grads(self) -> dict[str, np.ndarray]:
        """Copies of the accumulated gradients; a gradient that is still None is zero."""
        return {name: np.zeros_like(param.value) if param.grad is None else np.array(param.grad)
                for name, param in self.params.items()}

    def run(self, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
        """Clear, forward, backward: copies of dx (under "x") and of each parameter's gradient."""
        self.clear()
        self.forward(x)
        return self.pull(dy)

    def pull(self, dy: np.ndarray) -> dict[str, np.ndarray]:
        """Backward from the latest forward: copies of dx (under "x") and of the gradients accumulated so far."""
        return {"x": np.array(self.target.backward(dy)), **self.grads()}

    def hold(self, branch: Any) -> None:
        """Make later forwards stay on this branch.

        Raises: ValueError if the target cannot.
        """
        if not hasattr(self.target, "hold"):
            raise ValueError(f"{type(self.target).__name__} has no hold(branch); leave hold_branches out")
        self.target.hold(branch)
        self.held = True

    def release(self) -> None:
        """Let go of a held branch."""
        self.target.hold(None)
        self.held = False

    def on_branch(self, branch: Any) -> bool:
        """Was the latest forward on this branch?"""
        return self.held or same_branch(self._signature(), branch)

    def branch(self) -> Any:
        """A copy of the signature of the latest forward; None where the target is smooth, or does not say."""
        return _snapshot(self._signature())

    def _signature(self) -> Any:
        return self.target.branch_signature() if hasattr(self.target, "branch_signature") else None


def same_branch(a: Any, b: Any) -> bool:
    """Are two signatures (None, an array, or nested tuples of these) the same?"""
    if isinstance(a, tuple | list):
        return isinstance(b, tuple | list) and len(a) == len(b) and all(map(same_branch, a, b))
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a, b))


def _snapshot(branch: Any) -> Any:
    """Layers may reuse the buffer of a mask; the copy stays."""
    if isinstance(branch, tuple | list):
        return tuple(map(_snapshot, branch))
    return None if branch is None else np.array(branch)


def unlike(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], rtol: float = 0.0) -> str:
    """The first array that differs, in words; with rtol = 0 every bit counts."""
    for name, expected in want.items():
        found = got[name]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return f"{name} is {found.dtype} {found.shape} instead of {expected.dtype} {expected.shape}"
        gap = float(np.max(np.abs(found - expected), initial=0))
        if not gap <= rtol * float(np.max(np.abs(expected), initial=0)):
            return f"{name} differs by {gap:.1e}"
    return ""


class Maker:
    """Gives fresh layers that all have the parameter values of the first one.

    A parameter whose entries are all alike (a bias of zeros) hides mistakes, so it gets small random values.
    """

    def __init__(self, make_layer: Callable[[], Any], rng: np.random.Generator | None, seed: int):
        if not callable(make_layer) or (hasattr(make_layer, "forward") and not isinstance(make_layer, type)):
            raise ValueError(f"check_layer takes a function that makes a layer, such as lambda: Dense(5, 3), got "
                             f"{make_layer!r}; check(layer, x) is for one that there is already")
        self.make_layer, self.rng = make_layer, rng
        first = make_layer()
        params = named_params(first)
        if make_layer() is first:
            raise ValueError("make_layer() returned the same object twice; it has to make a new layer each time")
        self.name, self.npaes = type(first).__name__, is_npaes(first)
        self.values = {name: np.array(param.value) for name, param in params.items()}
        noise = np.random.default_rng([seed, 4])
        for value in self.values.values():
            if np.ptp(value) == 0:
                value += (0.1 * noise.normal(size=value.shape)).astype(value.dtype)

    @property
    def dtype(self) -> np.dtype:
        """The layer's own: that of its parameters, float32 without any."""
        return next((value.dtype for value in self.values.values()), np.dtype(np.float32))

    def fresh(self, dtype: Any = None) -> Specimen:
        """A layer nobody has used, with a generator of its own; with a dtype, a copy in that dtype."""
        layer = self.make_layer()
        for name, param in named_params(layer).items():
            param.value[...] = self.values[name]
        return Specimen(layer if dtype is None else copy_as(layer, dtype), self.rng)

    def differs(self, x: np.ndarray, dtype: Any = None) -> str:
        """How two new layers differ at the same x, in words: what compares two of them means nothing then."""
        one, two = (np.array(self.fresh(dtype).forward(x.copy())) for _ in range(2))
        wrong = unlike({"y": two}, {"y": one})
        return f"{wrong}: is a weight missing in params, or noise not drawn from give_rng(rng)?" if wrong else ""
