# %% [markdown]
# # Solution of exercise 3: a convolution, by im2col
#
# With the windows as rows, k = (u, v, c), it is a dense layer of N H' W' rows:
#
#     y[r, o] = Σ_k cols[r, k] W[k, o] + b[o],  r = (n, i, j)
#     db[o] = Σ_r dy[r, o]            dW[k, o] = Σ_r cols[r, k] dy[r, o]            dcols[r, k] = Σ_o dy[r, o] W[k, o]
#
# cols is made of copies of pixels: a pixel gets the sum of what its copies get (col2im, the transpose of im2col),
#
#     dX[n, a, e, c] = Σ dcols[n, i, j, (u, v, c)]  over  s i + u = a,  s j + v = e
#
# and dx is dX without its border. Rows that are in no window stay zero.

# %%
import numpy as np

from npae.params import Param


class Conv2d:
    """y = im2col(x) W + b;   x (N, H, W, C) -> y (N, H', W', O),  W (kh, kw, C, O), b (O,)"""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int, padding: int,
                 rng: np.random.Generator):
        self.W = Param("W", rng.normal(size=(*kernel_size, in_channels, out_channels)).astype(np.float32))
        self.b = Param("b", np.zeros(out_channels, np.float32))
        self.params = (self.W, self.b)
        self.stride, self.padding = stride, padding

    def taps(self, rows: int, columns: int):
        """For each (u, v): the slice of X that this tap of the kernel meets at all (i, j)."""
        kh, kw, s = *self.W.value.shape[:2], self.stride
        for u in range(kh):
            for v in range(kw):
                yield u, v, np.s_[:, u:u + s * (rows - 1) + 1:s, v:v + s * (columns - 1) + 1:s]

    def im2col(self, x):
        """cols (N, H', W', kh kw C), the window at (i, j) as a row."""
        (kh, kw, C, _), p = self.W.value.shape, self.padding
        X = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        rows, columns = ((size - k) // self.stride + 1 for size, k in zip(X.shape[1:3], (kh, kw), strict=True))
        cols = np.empty((len(x), rows, columns, kh, kw, C), x.dtype)
        for u, v, met in self.taps(rows, columns):
            cols[:, :, :, u, v] = X[met]
        return cols.reshape(len(x), rows, columns, kh * kw * C)

    def forward(self, x):
        self.x_shape = x.shape
        self.cols = self.im2col(x)
        return self.cols @ self.W.value.reshape(-1, len(self.b.value)) + self.b.value

    def backward(self, dy):
        dz = dy.reshape(-1, dy.shape[-1])
        self.b.grad += dz.sum(axis=0)
        self.W.grad += (self.cols.reshape(len(dz), -1).T @ dz).reshape(self.W.value.shape)
        (n, height, width, C), p = self.x_shape, self.padding
        dcols = (dz @ self.W.value.reshape(-1, dy.shape[-1]).T).reshape(*dy.shape[:3], *self.W.value.shape[:3])
        dX = np.zeros((n, height + 2 * p, width + 2 * p, C), dy.dtype)
        for u, v, met in self.taps(*dy.shape[1:3]):
            dX[met] += dcols[:, :, :, u, v]
        return dX[:, p:p + height, p:p + width]
