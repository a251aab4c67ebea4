# %% [markdown]
# # Exercise 5: upsampling
#
# A decoder has to make pictures larger. Two ways without weights, each by a factor f:
#
#     nearest:   y[n, i, j, c] = x[n, i // f, j // f, c]                          each pixel becomes a block of f x f
#     bilinear:  y[n, i, j, c] = Σ_a Σ_e  A[i, a] B[j, e] x[n, a, e, c]           each pixel is mixed from four
#
# The matrices A (f H, H) and B (f W, W) say how rows and columns are mixed; they are given.
#
# ## On paper
# dy = ∂L/∂y is given, dx = ∂L/∂x is owed. Begin with
#
#     ∂L/∂x[n, a, e, c] = Σ_{i,j} dy[n, i, j, c] ∂y[n, i, j, c]/∂x[n, a, e, c]
#
# 1. Nearest: for which i and j is ∂y[n, i, j, c]/∂x[n, a, e, c] one, and not zero? How many are they?
# 2. So what does a pixel get from its block: one of its numbers, their mean, or their sum?
# 3. Bilinear: what is ∂y[n, i, j, c]/∂x[n, a, e, c]? Put it in. Which index of A is summed over in forward, and which
#    one now? What is that called, of a matrix?
#
# ## Before you write
# - x is (N, H, W, C), y and dy are (N, f H, f W, C). dx has the shape of x: smaller than dy.
# - Nearest: y.reshape(N, H, f, W, f, C) has a block in two of its axes. In which two?
# - Upsampling and then averaging each block gives the picture back. Is backward therefore a mean? (What is asked for is
#   the transpose. When is that the inverse?)
# - The dot test: both are linear, Σ y dy = Σ x dx for every x and dy. Try it with x = 1 and dy = 1 everywhere: what
#   must Σ dx be? Which of the answers to question 2 gives that?

# %%
import numpy as np


class UpsampleNearest:
    """y[n, i, j, c] = x[n, i // f, j // f, c];   x (N, H, W, C) -> y (N, f H, f W, C)"""

    params = ()

    def __init__(self, factor: int):
        self.factor = factor

    def forward(self, x):
        self.x_shape = x.shape
        return x.repeat(self.factor, axis=1).repeat(self.factor, axis=2)

    def backward(self, dy):
        """Return dx."""
        raise NotImplementedError("backward of UpsampleNearest: return dx")


def mixing(size: int, factor: int, dtype) -> np.ndarray:
    """A (factor size, size): row i holds the shares of the two pixels between whose centres output i lies."""
    place = np.clip((np.arange(factor * size) + 0.5) / factor - 0.5, 0, size - 1)
    return np.maximum(0, 1 - abs(place[:, None] - np.arange(size))).astype(dtype)


class UpsampleBilinear:
    """y[n, i, j, c] = Σ_a Σ_e A[i, a] B[j, e] x[n, a, e, c];   x (N, H, W, C) -> y (N, f H, f W, C)"""

    params = ()

    def __init__(self, factor: int):
        self.factor = factor

    def forward(self, x):
        self.A, self.B = (mixing(size, self.factor, x.dtype) for size in x.shape[1:3])
        return np.einsum("ia,je,naec->nijc", self.A, self.B, x)

    def backward(self, dy):
        """Return dx."""
        raise NotImplementedError("backward of UpsampleBilinear: return dx")


# %% [markdown]
# ## Check it
# `npae grade 5_upsampling.py` goes through both in stages and gives a hint where one fails. The table of all
# derivatives, yours beside those of differences, and the dot test:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    for layer in (UpsampleNearest, UpsampleBilinear):
        print(gradcheck.check_layer(lambda layer=layer: layer(2), (2, 3, 4, 2)))
