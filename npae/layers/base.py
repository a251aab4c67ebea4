"""What a layer is: a forward that remembers, and a backward that turns dLoss/dy into dLoss/dx.
A Sequential is a layer too: it walks its children downstairs, and back up for the gradient.
"""
from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, Self

import numpy as np

from npae import kernels as _kernels
from npae.checks import as_numbers, float_type, kernel_module, sizes
from npae.copying import deep_copy
from npae.kernels import reference
from npae.params import Param, unique

Shape = tuple[int, ...]
FLOATS = np.dtype(np.float32), np.dtype(np.float64)


class Layer:
    """A map y = f(x) with its gradient.

        forward(x) -> y            remembers what backward needs
        backward(dy) -> dx         dx = (dy/dx)^T dy, and ADDS to the grad of each Param

    x and dy are never written to; y and dx are fresh arrays, or (with `keep_buffers`) valid until the next call.
    backward belongs to the latest forward and may be repeated. A subclass writes `_forward(x)` and
    `_backward(dy, need_dx)` under each other, and keeps in `self.saved` what the second needs from the first.
    """

    params: tuple[Param, ...] = ()
    input_ndim: int | None = None  # how many axes x must have, the batch included; None: any

    def __init__(self, kernels: ModuleType | None = None):
        self.name = type(self).__name__
        self.saved: Any = None
        self._gave: Any = None  # shape and dtype of the latest y
        self.held: Any = None  # a branch to stay on (see hold)
        self.work = _kernels.Workspace()
        self._kernels = kernel_module(kernels, self.name)

    @property
    def kernels(self) -> Any:
        """The module that computes: the one given, else `fast`, imported on first use."""
        self._kernels = _kernels.resolve(self._kernels)
        return self._kernels

    @property
    def dtype(self) -> np.dtype | None:
        """The dtype of the parameters; None for a layer that has none and takes what comes."""
        return self.params[0].value.dtype if self.params else None

    def forward(self, x: np.ndarray) -> np.ndarray:
        """y = f(x).

        Raises ValueError: x of another dtype or shape than the layer expects (both shown).
        """
        self.saved = None  # first, so that a forward that fails leaves no stale backward behind
        x = _in_c_order(x)
        self._check(x)
        y = self._forward(x)
        self._gave = y.shape, y.dtype
        return y

    def backward(self, dy: np.ndarray, need_dx: bool = True) -> Any:
        """dx of the latest forward; parameter gradients are added to. need_dx=False leaves dx out and gives None.

        Raises ValueError: without a forward before; dy of another shape or dtype than y (both shown).
        """
        if self.saved is None:
            raise ValueError(f"{self}: backward belongs to the latest forward, and there was none: call forward first")
        dy = _in_c_order(dy)
        shape, dtype = self._gave
        if dy.shape != shape or dy.dtype != dtype:
            raise ValueError(f"{self} gave y of shape {shape} and {dtype}, got dy of shape {dy.shape} and {dy.dtype}")
        return self._backward(dy, need_dx)

    def _forward(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} needs a _forward(x)")

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        raise NotImplementedError(f"{type(self).__name__} needs a _backward(dy, need_dx)")

    def _check(self, x: np.ndarray) -> None:
        if self.input_ndim is not None and x.ndim != self.input_ndim:
            raise ValueError(f"{self} expects x with {self.input_ndim} axes, got {x.ndim}: x of shape {x.shape}")
        if x.size == 0:
            raise ValueError(f"{self} needs at least 1 row and 1 number in each, got x of shape {x.shape}")
        if x.dtype not in FLOATS:
            if x.dtype != np.complex128:
                hint = "divide uint8 pictures by 255 first" if x.dtype == np.uint8 else "convert it first"
                raise ValueError(f"{self} expects x of float32 or float64, got {x.dtype}: {hint}")
            if self.kernels is not reference:
                raise ValueError(f"{self} takes complex128 on the reference kernels alone: use "
                                 "layer.to(np.complex128, kernels=npae.kernels.reference)")
        own = self.dtype
        if own is not None and x.dtype != own:
            raise ValueError(f"{self} is {own}, got x of {x.dtype}: convert x, or use layer.to(dtype=...)")

    def _kept(self, y: np.ndarray) -> np.ndarray:
        """y for backward: a copy where the caller may write into y, y itself in a training loop."""
        return y if self.work.keep else y.copy()

    def zero_grad(self) -> None:
        """Set every parameter's gradient to zero."""
        for p in self.params:
            p.grad[...] = 0

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of y for one x of input_shape, both without the batch axis."""
        return tuple(input_shape)

    def multiply_adds(self, input_shape: Shape) -> int:
        """Multiplications (each with an addition) of forward for one picture."""
        return 0

    def config(self) -> dict[str, Any]:
        """What `layers.build` needs to make this layer again, without the values of its parameters."""
        return {"layer": type(self).__name__}

    def walk(self) -> Iterator[Layer]:
        """This layer and all layers in it, in the order of forward."""
        yield self

    def set_name(self, name: str) -> None:
        """Name the layer by its path in a net, such as 'encoder.2', and its parameters 'encoder.2.W'."""
        self.name = name
        for p in self.params:
            p.name = f"{name}.{p.name.rsplit('.', 1)[-1]}"

    def give_rng(self, rng: np.random.Generator | None) -> None:
        """Hand a generator to the layers that make noise; None makes them quiet."""

    def keep_buffers(self, keep: bool) -> None:
        """Write y and dx into the same arrays from call to call (a training loop), or into fresh ones (the default)."""
        self.work = _kernels.Workspace(keep)

    def branch_signature(self) -> Any:
        """Which side of each kink the latest forward took (mask, winners); None for a smooth layer."""
        return None

    def hold(self, branch: Any) -> None:
        """Stay on this branch in every later forward, whatever x says; None lets go.

        The gradient at the branch's own x is the same, and the function becomes smooth: what a gradient check wants.
        """
        self.held = branch

    def to(self, dtype: Any = None, kernels: ModuleType | None = None) -> Self:
        """A copy with another dtype or other kernels; layers that shared a Param share its copy."""
        return copied(self, dtype, kernels)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """On the same kernels; what backward remembered is left behind."""
        return deep_copy(self, memo, saved=None, work=_kernels.Workspace(), _kernels=self._kernels)

    def __str__(self) -> str:
        kind = type(self).__name__
        return kind if self.name == kind else f"{kind} {self.name!r}"

    def __repr__(self) -> str:
        settings = [f"{key}={value!r}" for key, value in self.config().items() if key != "layer"]
        return f"{type(self).__name__}({', '.join(settings)})"


def _in_c_order(array: Any) -> np.ndarray:
    """As it is where it can be. A read-only array is copied: Numba would compile every kernel anew for its type."""
    if not isinstance(array, np.ndarray):
        array = as_numbers(array)
    return np.ascontiguousarray(array) if array.flags.writeable else array.copy()


def of_npae(layer: Layer) -> bool:
    """Whether its class is npae's own, so that its equation is known: a subclass may compute something else."""
    return type(layer).__module__.startswith("npae.layers")


def copied(thing: Any, dtype: Any = None, kernels: ModuleType | None = None) -> Any:
    """A deep copy of a layer or model in another dtype, on other kernels; its parameters come out unpacked.

    Raises ValueError: a dtype that the kernels do not compute in.
    """
    if dtype is not None:
        dtype = float_type(dtype, "layers compute")
    kernel_module(kernels, "to")
    parts: dict[int, Any] = {}
    twin = copy.deepcopy(thing, parts)
    for part in list(parts.values()):  # deepcopy's memo: all that was copied, layers inside a user's own layer too
        if isinstance(part, Param):
            part.value = np.array(part.value, dtype or part.value.dtype, order="C")
            part.grad = np.array(part.grad, dtype or part.grad.dtype, order="C")
            part.packed = False
        elif isinstance(part, Layer):
            part._kernels = kernels or part._kernels
    return twin


class Sequential(Layer):
    """Layers one after another.

        y = f_n(... f_2(f_1(x)))
        Backward: dx = f_1'^T(... f_n'^T dy), the same layers visited from the last to the first

    `input_shape` (without the batch) may be given, so that `summary()` needs no argument.
    Raises ValueError: an empty list; one Layer object twice (share weights through Param, as TiedDense does).
    """

    def __init__(self, layers: Sequence[Layer], *, input_shape: Sequence[int] | None = None):
        super().__init__()
        if isinstance(layers, Layer) or not isinstance(layers, Iterable):
            raise ValueError(f"Sequential takes a list of layers, got {layers!r}: write Sequential([...])")
        self.layers = list(layers)
        self.input_shape = None if input_shape is None else sizes(input_shape, "Sequential: input_shape")
        if not self.layers:
            raise ValueError("Sequential needs at least 1 layer, got 0")
        for place, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ValueError(f"Sequential: place {place} holds {layer!r}, which is no Layer")
        places: dict[int, int] = {}
        for place, layer in enumerate(inner for top in self.layers for inner in top.walk()):
            if places.setdefault(id(layer), place) != place:
                raise ValueError(f"{layer} stands at places {places[id(layer)]} and {place} of a Sequential: one Layer "
                                 "object stands once in a net; share weights through a tied layer")
        self.params = unique(p for layer in self.layers for p in layer.params)
        self.set_name("")

    def _check(self, x: np.ndarray) -> None:
        """Each child checks its own x."""

    def _forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x)
        self.saved = True
        return x

    def _backward(self, dy: np.ndarray, need_dx: bool) -> np.ndarray | None:
        # without need_dx the walk ends at the first layer that has anything to learn
        last = 0 if need_dx else next((i for i, layer in enumerate(self.layers) if layer.params), len(self.layers))
        dx: Any = dy
        for i in range(len(self.layers) - 1, last - 1, -1):
            dx = self.layers[i].backward(dx, need_dx or i > last)
        return dx if need_dx else None

    def output_shape(self, input_shape: Shape) -> Shape:
        """The last child's, each child's being the next one's input."""
        for layer in self.layers:
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def multiply_adds(self, input_shape: Shape) -> int:
        """The sum over the children."""
        return sum(layer.multiply_adds(shape) for layer, shape in self._shapes(input_shape))

    def _shapes(self, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        for layer in self.layers:
            yield layer, input_shape
            input_shape = layer.output_shape(input_shape)

    def config(self) -> dict[str, Any]:
        """The children's configs, in order."""
        return {"layer": type(self).__name__, "layers": [layer.config() for layer in self.layers],
                "input_shape": None if self.input_shape is None else list(self.input_shape)}

    def walk(self) -> Iterator[Layer]:
        """This layer, and each child with all that is in it."""
        yield self
        for layer in self.layers:
            yield from layer.walk()

    def set_name(self, name: str) -> None:
        """Name the children '0', '1', ... under this layer's own path."""
        self.name = name or "Sequential"
        for i, layer in enumerate(self.layers):
            layer.set_name(f"{name}.{i}" if name else str(i))

    def give_rng(self, rng: np.random.Generator | None) -> None:
        """Hand the same generator to every child."""
        for layer in self.layers:
            layer.give_rng(rng)

    def keep_buffers(self, keep: bool) -> None:
        """For every child."""
        for layer in self.layers:
            layer.keep_buffers(keep)

    def branch_signature(self) -> Any:
        """One entry a child."""
        return tuple(layer.branch_signature() for layer in self.layers)

    def hold(self, branch: Any) -> None:
        """One entry a child, as branch_signature gives them; None lets all go."""
        for layer, b in zip(self.layers, branch or (None,) * len(self.layers), strict=True):
            layer.hold(b)

    def summary(self, input_shape: Sequence[int] | None = None) -> str:
        """A table: layer, output shape, parameters, multiply-adds for one picture; nested nets are indented.

        Raises ValueError: no input_shape, neither here nor in the constructor.
        """
        shape = input_shape or self.input_shape
        if shape is None:
            raise ValueError(f"{self}: summary needs the shape of one input, for example summary((28, 28, 1))")
        from npae.layers.summary import table

        return table(self, tuple(shape))
