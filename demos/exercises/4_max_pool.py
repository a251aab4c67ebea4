# %% [markdown]
# # Exercise 4: max-pooling
#
# A window of kh x kw pixels walks over each channel in steps of s, and only its largest number goes on:
#
#     y[n, i, j, c] = max over u, v of  x[n, s i + u, s j + v, c]
#
# ## On paper
# dy[n, i, j, c] = ∂L/∂y[n, i, j, c] is given, dx[n, a, e, c] is owed. Begin with
#
#     ∂L/∂x[n, a, e, c] = Σ_{i,j} dy[n, i, j, c] ∂y[n, i, j, c]/∂x[n, a, e, c]
#
# 1. Take one window. If its largest number grows a little, by how much does y grow? If another one grows a little?
# 2. So what is ∂y[n, i, j, c]/∂x[n, a, e, c], in words and as a formula with the winner (u*, v*) of the window?
# 3. With a stride smaller than the window the windows overlap. Can one pixel win in two windows? What is its dx?
# 4. Two equal numbers in one window: forward takes the first. What would it mean if both got dy?
#
# ## Before you write
# - x is (N, H, W, C), y, dy and the winners are (N, H', W', C), dx has the shape of x. What stands in dx at the pixels
#   that have won nothing, or were in no window?
# - Each channel and each picture has winners of its own: along which axes may a mask be shared?
# - forward gives the winner as one number w = u kw + v. How do you get u and v back?
# - `dx[n, a, e, c] += dy` with arrays of indices: what happens where the same pixel stands in them twice? (Look up
#   np.add.at, or loop over the taps (u, v) as forward does: no pixel occurs twice in one tap.)
# - Σ dx = Σ dy holds here. Why? Which mistakes does this sum see, and which not?

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
        """Return dx."""
        raise NotImplementedError("backward of MaxPool2d: return dx")


# %% [markdown]
# ## Check it
# `npae grade 4_max_pool.py` goes through it in stages and gives a hint where one fails. The table of all derivatives,
# yours beside those of differences:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    print(gradcheck.check_layer(lambda: MaxPool2d((3, 2), 2), (2, 6, 5, 2)))
