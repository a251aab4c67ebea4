"""The same weights in PyTorch's layout: pictures (N, C, H, W), and so other orders of the axes and of a row's numbers.
PyTorch itself is never imported: a state dict is names and arrays.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npae.layers import Activation, Conv2d, Dense, Layer, Reshape, Sequential
from npae.layers.affine import Affine, Tied
from npae.layers.base import of_npae


def from_pytorch(net: Any, tensors: Mapping[str, Any], names: Sequence[str],
                 input_shape: Sequence[int] | None = None) -> None:
    """Fill the layers of a model, or of a Sequential, with the weights of a PyTorch state dict, in place.

    `names` says where each layer that has weights stands in the state dict, in the order of forward (a model's encoder
    first): "encoder.0" for encoder.0.weight and encoder.0.bias; without a bias (`bias=False`) npae's becomes 0.

        Conv2d           (out, in, kh, kw)  ->  (kh, kw, in, out)
        ConvTranspose2d  (in, out, kh, kw)  ->  (kh, kw, out, in)
        Linear           (out, in)          ->  (in, out)

    and where a Dense follows a Flatten (or stands before a Reshape to pictures), its rows (its columns and bias) go
    from PyTorch's order of pixels (C, H, W) to npae's (H, W, C). Outputs agree where the nets do: of padding, PyTorch's
    integers are npae's integers ("same" with a stride, `output_padding` and `dilation` have no counterpart).

    Shapes: input_shape (H, W, C) of a Sequential that was made without one
    Raises ValueError: names or tensors that are missing or left over, another shape (both shown), a dtype that would
    lose digits, a tied layer. Nothing has been changed then.
    """
    wanted = _places(net, names, input_shape)
    left = set(tensors) - {f"{place.name}.{kind}" for place in wanted for kind in ("weight", "bias")}
    if left:
        raise ValueError(f"the state dict has {', '.join(sorted(left)[:5])}, which none of the names {list(names)} "
                         "takes: name every layer, or leave these tensors out")
    filled = []
    for place in wanted:
        W, b = place.layer.W.value, place.layer.b.value
        weight = _fitting(tensors, f"{place.name}.weight", place.to_pytorch(W).shape, place.layer)
        bias = np.zeros_like(b)
        if f"{place.name}.bias" in tensors:
            bias = _fitting(tensors, f"{place.name}.bias", b.shape, place.layer)
        filled += [(W, place.from_pytorch(weight)), (b, bias[place.columns])]
    for value, new in filled:
        value[...] = new


def to_pytorch(net: Any, names: Sequence[str], input_shape: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """The weights of a model, or of a Sequential, as a state dict in PyTorch's layout: the way back of `from_pytorch`.

    `{name: torch.from_numpy(array) ...}` goes into `load_state_dict`; `write_tensors(path, ...)` makes a file of it.
    Raises ValueError: names that do not fit, a tied layer
    """
    found = {}
    for place in _places(net, names, input_shape):
        found[f"{place.name}.weight"] = np.ascontiguousarray(place.to_pytorch(place.layer.W.value))
        bias = found[f"{place.name}.bias"] = np.empty_like(place.layer.b.value)
        bias[place.columns] = place.layer.b.value
    return found


@dataclass
class _Place:
    """A layer with weights, and which of PyTorch's inputs and outputs are npae's 0, 1, ... (of a Dense)."""

    layer: Any
    rows: Any = ...  # all, as they stand
    columns: Any = ...
    name: str = ""

    def from_pytorch(self, weight: np.ndarray) -> np.ndarray:
        if isinstance(self.layer, Dense):
            return weight.T[self.rows][:, self.columns]
        return weight.transpose(2, 3, 1, 0)

    def to_pytorch(self, W: np.ndarray) -> np.ndarray:
        if not isinstance(self.layer, Dense):
            return W.transpose(3, 2, 0, 1)
        half, weight = np.empty(W.shape, W.dtype), np.empty(W.shape, W.dtype)
        half[:, self.columns] = W
        weight[self.rows] = half
        return weight.T


def _places(net: Any, names: Sequence[str], input_shape: Sequence[int] | None) -> list[_Place]:
    """The layers with weights, in the order of forward, with their names and orders.

    Raises ValueError: as many names as layers are needed; a layer whose layout is not known.
    """
    nets = [net] if isinstance(net, Sequential) else [net.encoder, net.decoder]
    if getattr(net, "classes", None):
        raise ValueError(f"{type(net).__name__} lays labels behind its pixels, and no PyTorch layer says in which "
                         "order: fill its encoder and its decoder by hand")
    found: list[_Place] = []
    for part in nets:
        shape = part.input_shape
        if part is net and input_shape is not None:
            shape = tuple(input_shape)
        elif shape is None and part is not nets[0] and net.latent:
            shape = (net.latent,)
        if shape is None:
            raise ValueError(f"{part} does not say what it takes: pass input_shape=(H, W, C), or build it by "
                             "Sequential(layers, input_shape=...)")
        found += _walk(part, tuple(shape))
    if len(names) != len(found) or len(set(names)) < len(names):
        raise ValueError(f"{len(found)} layers have weights ({', '.join(place.layer.name for place in found)}), and "
                         f"there are {len(set(names))} different names, {list(names)}: give one for each")
    for place, name in zip(found, names, strict=True):
        place.name = name
    return found


def _walk(net: Sequential, shape: tuple[int, ...]) -> list[_Place]:
    """The layers with weights, each with the order of its rows and columns."""
    found: list[_Place] = []
    origin: Any = None  # of a row of numbers: the Dense that gave it, or the shape (H, W, C) of a flattened picture
    for layer in (layer for layer in net.walk() if not isinstance(layer, Sequential)):
        after = layer.output_shape(shape)
        known = of_npae(layer) or isinstance(layer, Activation)
        if isinstance(layer, Tied) or not known or len(after) not in (1, 3):
            raise ValueError(f"{layer} has no counterpart in PyTorch that npae knows: copy the values by hand")
        if isinstance(layer, Dense):
            found.append(_Place(layer, rows=_order(origin) if isinstance(origin, tuple) else ...))
            origin = found[-1]
        elif isinstance(layer, Reshape) and after != shape:
            if isinstance(origin, _Place):
                origin.columns = _order(after)
            elif len(after) != 1 and origin != after:
                _refuse_unordered(layer, origin or shape)
                _refuse_unordered(layer, after)
            origin = shape if len(after) == 1 else None
        elif isinstance(layer, Conv2d) or after != shape:
            _refuse_unordered(layer, origin if isinstance(origin, tuple) else ())
            found += [_Place(layer)] * isinstance(layer, Conv2d)
            origin = None
        shape = after
    _refuse_unordered(net, origin if isinstance(origin, tuple) else ())
    return found


def _refuse_unordered(layer: Layer, picture: tuple[int, ...]) -> None:
    """Raises ValueError where the numbers of a flattened picture stand in another order than PyTorch's."""
    if not np.array_equal(np.arange(math.prod(picture))[_order(picture)], np.arange(math.prod(picture))):
        raise ValueError(f"{layer} has the numbers of a picture {picture} in a row without a Dense beside it, and "
                         "PyTorch's order is (C, H, W): no weights can make the two equal")


def _order(picture: tuple[int, ...]) -> Any:
    """PyTorch's place (C, H, W) of each number of a flattened picture (H, W, C); of any other row, its own place."""
    if len(picture) != 3:
        return ...
    h, w, c = picture
    return np.arange(h * w * c).reshape(c, h, w).transpose(1, 2, 0).ravel()


def _fitting(tensors: Mapping[str, Any], name: str, shape: tuple[int, ...], layer: Affine) -> np.ndarray:
    """A tensor as an array of a layer's dtype."""
    if name not in tensors:
        raise ValueError(f"the state dict has no {name!r} for {layer}: it has {', '.join(list(tensors)[:8])}")
    try:
        array = np.asarray(tensors[name])
    except (RuntimeError, TypeError, ValueError) as error:  # of PyTorch: a parameter itself, or bfloat16
        raise ValueError(f"{name} does not become an array ({error}): pass model.state_dict(), in float32, on the "
                         "CPU") from None
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, and {layer} needs {shape} in PyTorch's layout: look at its "
                         "sizes, and at the order of the names")
    if not np.can_cast(array.dtype, layer.W.value.dtype):
        raise ValueError(f"{name} is {array.dtype}, and {layer} is {layer.W.value.dtype}: convert the tensor, or build "
                         f"the layer with dtype=np.{array.dtype}")
    return array.astype(layer.W.value.dtype)
