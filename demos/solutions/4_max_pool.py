# %% [markdown]
# # Solution of exercise 4: max-pooling
#
# Near x the window's winner stays the winner, and y is a copy of it:
#
#     ∂y[n, i, j, c]/∂x[n, a, e, c] = 1 where (a, e) = (s i + u*, s j + v*), the winner of window (i, j), else 0
#     dx[n, a, e, c] = Σ dy[n, i, j, c]  over the windows (i, j) that (a, e) has won
#
# A pixel that has won twice gets both. Each dy goes to one pixel, hence Σ dx = Σ dy.

# %%
import numpy as np


class MaxPool2d:
    """y = the largest number of each window;   x (N, H, W, C) -> y (N, H', W', C)"""

    params = ()

    def __init__(self, pool_size: tuple[int, int], stride: int):
        self.pool_size, self.stride = pool_size, stride

    def taps(self, rows: int, columns: int):
        """For each (u, v): the slice of x that this place of the window meets at all (i, j)."""
        s = self.stride
        for u in range(self.pool_size[0]):
            for v in range(self.pool_size[1]):
                yield np.s_[:, u:u + s * (rows - 1) + 1:s, v:v + s * (columns - 1) + 1:s]

    def forward(self, x):
        rows, columns = ((size - k) // self.stride + 1 for size, k in zip(x.shape[1:3], self.pool_size, strict=True))
        windows = np.stack([x[met] for met in self.taps(rows, columns)])  # (kh kw, N, H', W', C)
        self.x_shape, self.winner = x.shape, windows.argmax(axis=0)       # winner w = u kw + v
        return windows.max(axis=0)

    def backward(self, dy):
        dx = np.zeros(self.x_shape, dy.dtype)
        for w, met in enumerate(self.taps(*dy.shape[1:3])):
            dx[met] += dy * (self.winner == w)
        return dx
