"""Convolutions and their transposes, on pictures (N, H, W, C).
All of them are the same three contractions (see kernels/reference.py); they differ in which is forward.
"""
from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from npae import init as _init
from npae.checks import first_values, whole
from npae.kernels.geometry import (
    Geometry,
    Padding,
    Pair,
    check_padding,
    pair,
    transposed_geometry,
    window_geometry,
)
from npae.layers.activations import Activation
from npae.layers.affine import Affine, Tied
from npae.layers.base import Shape
from npae.layers.dense import Init
from npae.params import Param


def _plain(size: tuple[int, int]) -> int | list[int]:
    """3 for (3, 3), [3, 5] for (3, 5): how a size stands in a config."""
    return size[0] if size[0] == size[1] else list(size)


class Conv2d(Affine):
    """Convolution (cross-correlation, as everywhere in deep learning) of pictures.

        y[n,i,j,o] = f(b[o] + sum_{u,v,c} W[u,v,c,o] x[n, s i + u - p, s j + v - p, c])

    Shapes: x (N, H, W, in) -> y (N, H', W', out);  W (kh, kw, in, out), b (out,);
            H' = ceil(H / s) for padding 'same', floor((H + 2 p - kh) / s) + 1 for an integer p ('valid' is 0)
    Backward: dz = f'(y) dy;   dW += conv2d_weight_grad(x, dz);   db += sum dz;   dx = conv2d_input_grad(dz, W)
    Raises ValueError: another number of channels; a kernel larger than the padded picture (both sizes shown).
    Source: Dumoulin & Visin 2016, arXiv:1603.07285, section 2

    >>> Conv2d(1, 8, 3, padding="valid").forward(np.zeros((2, 28, 28, 1), np.float32)).shape
    (2, 26, 26, 8)
    """

    input_ndim = 4
    _weight_axes = (0, 1)  # W is (kh, kw, in, out)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Pair, *, stride: Pair = 1,
                 padding: Padding = "same", activation: str | Activation | None = None,
                 init: Init = _init.glorot_uniform, rng: np.random.Generator | None = None,
                 dtype: Any = np.float32, kernels: ModuleType | None = None):
        what = type(self).__name__
        self.kernel_size, self.stride = pair(kernel_size, f"{what}: kernel_size"), pair(stride, f"{what}: stride")
        check_padding(padding, what)
        self.padding = padding if isinstance(padding, str) else int(padding)
        self._geometries: dict[Shape, Geometry] = {}
        self.in_channels = in_channels = whole(in_channels, f"{what}: in_channels")
        self.out_channels = out_channels = whole(out_channels, f"{what}: out_channels")
        ends, area = (in_channels, out_channels), self.kernel_size[0] * self.kernel_size[1]
        shape = (*self.kernel_size, *(ends[axis] for axis in self._weight_axes))
        W = first_values(init, rng, shape, (area * in_channels, area * out_channels), dtype, what)
        super().__init__(Param("W", W), Param("b", np.zeros(out_channels, dtype)), activation, kernels)

    def _expects(self):
        return self.in_channels, "input channels"

    def geometry(self, size: Shape) -> Geometry:
        """Where the windows lie on pictures of this (H, W)."""
        return window_geometry(size, self.kernel_size, self.stride, self.padding, str(self))

    def geometry_at(self, size: Shape) -> Geometry:
        """`geometry`, worked out once for each size: a step asks for it three times."""
        size = tuple(size)
        if size not in self._geometries:
            self._geometries[size] = self.geometry(size)
        return self._geometries[size]

    def _apply(self, x, activation, y):
        g = self.geometry_at(x.shape[1:3])
        self.kernels.conv2d_forward(x, self.W.value, self.b.value, g, activation, y, self.work)

    def _gradients(self, x, y, dy, dx):
        g = self.geometry_at(x.shape[1:3])
        self.kernels.conv2d_backward(x, self.W.value, y, dy, g, self.activation, self.W.grad, self.b.grad,
                                     dx, self.work)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', out)"""
        self._check_channels(input_shape)
        return (*self.geometry_at(input_shape[:2]).output_size, self.out_channels)

    def multiply_adds(self, input_shape: Shape) -> int:
        """Each output pixel meets all of W."""
        h, w, _ = self.output_shape(input_shape)
        return h * w * self.W.value.size

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return self._config(in_channels=self.in_channels, out_channels=self.out_channels,
                            kernel_size=_plain(self.kernel_size), stride=_plain(self.stride), padding=self.padding)


class ConvTranspose2d(Conv2d):
    """Transposed convolution: the exact adjoint of the Conv2d with the same arguments that leads from y's size to x's.

        y = f(b + conv2d_input_grad(x, W)): each pixel of x paints its kernel, scaled, into y

    Shapes: x (N, H, W, in) -> y (N, H', W', out);  W (kh, kw, out, in), b (out,);
            H' = s H for padding 'same', (H - 1) s + kh - 2 p for an integer p ('valid' is 0)
    Backward: dz = f'(y) dy;   dW += conv2d_weight_grad(dz, x);   db += sum dz;   dx = conv2d(dz, W)
    Raises ValueError: another number of channels; a padding that leaves no pixel.
    Source: Dumoulin & Visin 2016, arXiv:1603.07285, section 4

    >>> ConvTranspose2d(8, 1, 3, stride=2).forward(np.zeros((2, 7, 7, 8), np.float32)).shape
    (2, 14, 14, 1)
    """

    _weight_axes = (1, 0)  # W is (kh, kw, out, in)

    def geometry(self, size: Shape) -> Geometry:
        """The convolution that this layer is the adjoint of: from y's pictures to x's."""
        return transposed_geometry(size, self.kernel_size, self.stride, self.padding, str(self))

    def _apply(self, x, activation, y):
        g = self.geometry_at(x.shape[1:3])
        self.kernels.conv2d_transpose_forward(x, self.W.value, self.b.value, g, activation, y, self.work)

    def _gradients(self, x, y, dy, dx):
        g = self.geometry_at(x.shape[1:3])
        self.kernels.conv2d_transpose_backward(x, self.W.value, y, dy, g, self.activation, self.W.grad, self.b.grad,
                                               dx, self.work)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', out)"""
        self._check_channels(input_shape)
        return (*self.geometry_at(input_shape[:2]).input_size, self.out_channels)

    def multiply_adds(self, input_shape: Shape) -> int:
        """Each input pixel meets all of W."""
        return input_shape[0] * input_shape[1] * self.W.value.size


class TiedConvTranspose2d(Tied, Affine):
    """y = f(b + conv2d_input_grad(x, W)) with the W of a Conv2d partner: its transpose, with a bias of its own.

    Shapes: x (N, H, W, out) -> y (N, H', W', in) for a partner with W (kh, kw, in, out), sizes as ConvTranspose2d
    Backward: dz = f'(y) dy;   dW += conv2d_weight_grad(dz, x);   db += sum dz;   dx = conv2d(dz, W)
    """

    input_ndim = 4

    def __init__(self, partner: Conv2d, activation: str | Activation | None = None):
        if type(partner) is not Conv2d:
            raise ValueError(f"TiedConvTranspose2d needs a Conv2d partner, got {partner!r}")
        b = Param("b", np.zeros(partner.in_channels, partner.W.value.dtype))
        super().__init__(partner.W, b, activation, partner._kernels)
        self.partner = partner
        self._geometries: dict[Shape, Geometry] = {}

    def _expects(self):
        return self.partner.out_channels, "input channels"

    geometry: Any = ConvTranspose2d.geometry
    geometry_at: Any = ConvTranspose2d.geometry_at
    _apply: Any = ConvTranspose2d._apply
    _gradients: Any = ConvTranspose2d._gradients
    multiply_adds: Any = ConvTranspose2d.multiply_adds

    @property
    def kernel_size(self) -> tuple[int, int]:
        """The partner's, as stride and padding."""
        return self.partner.kernel_size

    @property
    def stride(self) -> tuple[int, int]:
        """The partner's."""
        return self.partner.stride

    @property
    def padding(self) -> Padding:
        """The partner's."""
        return self.partner.padding

    def output_shape(self, input_shape: Shape) -> Shape:
        """(H', W', in of the partner)"""
        self._check_channels(input_shape)
        return (*self.geometry_at(input_shape[:2]).input_size, self.partner.in_channels)


class UpsampleConv2d(Conv2d):
    """Nearest-neighbour upsampling by 2, then a 'same' convolution, in 4/9 of the two layers' work for 3 x 3.

        y = f(b + conv2d(u, W)),   u[n,a,b,c] = x[n, a // 2, b // 2, c]

    Each x stands twice in u along an axis, so two neighbouring taps of W meet the same x and can be added beforehand.
    What is left is a transposed convolution of stride 2 with one more tap, along each axis
        V[k] = W[K - 1 - k] + W[K - k]   (0 outside),   k = 0 .. K

    Shapes: x (N, H, W, in) -> y (N, 2 H, 2 W, out);  W (kh, kw, in, out), b (out,);  V (kh + 1, kw + 1, out, in)
    Backward: dV, db, dx as ConvTranspose2d;   dW[j] += dV[K - 1 - j] + dV[K - j] along each axis
    Source: Odena, Dumoulin & Olah 2016, 'Deconvolution and Checkerboard Artifacts' (why to upsample and convolve)
    """

    V: np.ndarray  # that of the latest forward

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Pair, *,
                 activation: str | Activation | None = None, init: Init = _init.glorot_uniform,
                 rng: np.random.Generator | None = None, dtype: Any = np.float32, kernels: ModuleType | None = None):
        super().__init__(in_channels, out_channels, kernel_size, activation=activation, init=init, rng=rng, dtype=dtype,
                         kernels=kernels)

    def geometry(self, size: Shape) -> Geometry:
        """The convolution that the transposed one with V is the adjoint of: from y's pictures to x's."""
        (h, w), (kh, kw) = size, self.kernel_size
        return Geometry((2 * h, 2 * w), (kh + 1, kw + 1), (2, 2), (kh // 2, kw // 2), (h, w))

    def _four_shifts(self, V: np.ndarray) -> list[np.ndarray]:
        """The four (kh, kw) windows of V: views, not copies."""
        kh, kw = self.kernel_size
        return [V[i:i + kh, j:j + kw] for i in (0, 1) for j in (0, 1)]

    def _turned(self, V: np.ndarray, key: str) -> np.ndarray:
        """V with its taps in the opposite order and its two channel axes changed: between W's layout and V's."""
        turned = self.work.empty(key, (*V.shape[:2], V.shape[3], V.shape[2]), V.dtype)
        turned[...] = V.transpose(0, 1, 3, 2)[::-1, ::-1]
        return turned

    def _folded(self) -> np.ndarray:
        kh, kw = self.kernel_size
        V = self.work.empty("sums", (kh + 1, kw + 1, self.in_channels, self.out_channels), self.W.value.dtype)
        V[...] = 0
        for shift in self._four_shifts(V):
            shift += self.W.value
        return self._turned(V, "V")

    def _apply(self, x, activation, y):
        g, self.V = self.geometry_at(x.shape[1:3]), self._folded()
        self.kernels.conv2d_transpose_forward(x, self.V, self.b.value, g, activation, y, self.work)

    def _gradients(self, x, y, dy, dx):
        g = self.geometry_at(x.shape[1:3])
        dV = self.work.empty("dV", self.V.shape, self.V.dtype)
        dV[...] = 0
        self.kernels.conv2d_transpose_backward(x, self.V, y, dy, g, self.activation, dV, self.b.grad, dx, self.work)
        for shift in self._four_shifts(self._turned(dV, "sums")):
            self.W.grad += shift

    def output_shape(self, input_shape: Shape) -> Shape:
        """(2 H, 2 W, out)"""
        self._check_channels(input_shape)
        return 2 * input_shape[0], 2 * input_shape[1], self.out_channels

    def multiply_adds(self, input_shape: Shape) -> int:
        """Each input pixel meets all of V."""
        kh, kw = self.kernel_size
        return input_shape[0] * input_shape[1] * (kh + 1) * (kw + 1) * self.in_channels * self.out_channels

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return self._config(in_channels=self.in_channels, out_channels=self.out_channels,
                            kernel_size=_plain(self.kernel_size))
