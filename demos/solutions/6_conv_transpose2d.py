# %% [markdown]
# # Solution of exercise 6: a transposed convolution
#
# dY is dy with a border of zeros: what was cut off has no influence on L.
#
#     ∂Y[n, s i + u, s j + v, o]/∂x[n, i, j, c] = W[u, v, o, c]
#     dx[n, i, j, c]    = Σ_{u,v,o} dY[n, s i + u, s j + v, o] W[u, v, o, c]        a convolution of dy, unturned
#     ∂Y[n, s i + u, s j + v, o]/∂W[u, v, o, c] = x[n, i, j, c]
#     dW[u, v, o, c]    = Σ_{n,i,j} dY[n, s i + u, s j + v, o] x[n, i, j, c]
#     db[o]             = Σ_{n,a,e} dy[n, a, e, o]
#
# Forward is a convolution's gradient, and backward is the convolution.

# %%
import numpy as np

from npae.params import Param


class ConvTranspose2d:
    """y = stamps of W, x[n, i, j, c] high, + b;   x (N, H, W, C) -> y (N, H', W', O),  W (kh, kw, O, C), b (O,)"""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int, padding: int,
                 rng: np.random.Generator):
        self.W = Param("W", rng.normal(size=(*kernel_size, out_channels, in_channels)).astype(np.float32))
        self.b = Param("b", np.zeros(out_channels, np.float32))
        self.params = (self.W, self.b)
        self.stride, self.padding = stride, padding

    def taps(self, rows: int, columns: int):
        """For each (u, v): the slice of Y onto which this tap of the kernel falls from all (i, j)."""
        kh, kw, s = *self.W.value.shape[:2], self.stride
        for u in range(kh):
            for v in range(kw):
                yield u, v, np.s_[:, u:u + s * (rows - 1) + 1:s, v:v + s * (columns - 1) + 1:s]

    def forward(self, x):
        self.x = x
        n, rows, columns, _ = x.shape
        (kh, kw, O, _), s, p = self.W.value.shape, self.stride, self.padding
        Y = np.zeros((n, (rows - 1) * s + kh, (columns - 1) * s + kw, O), x.dtype)
        for u, v, met in self.taps(rows, columns):
            Y[met] += x @ self.W.value[u, v].T
        return Y[:, p:Y.shape[1] - p, p:Y.shape[2] - p] + self.b.value

    def backward(self, dy):
        self.b.grad += dy.sum(axis=(0, 1, 2))
        p, dx = self.padding, np.zeros(self.x.shape, dy.dtype)
        dY = np.pad(dy, ((0, 0), (p, p), (p, p), (0, 0)))
        for u, v, met in self.taps(*dx.shape[1:3]):
            self.W.grad[u, v] += np.tensordot(dY[met], self.x, ([0, 1, 2], [0, 1, 2]))
            dx += dY[met] @ self.W.value[u, v]
        return dx
