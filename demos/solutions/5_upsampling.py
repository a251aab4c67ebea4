# %% [markdown]
# # Solution of exercise 5: upsampling
#
#     nearest:   ∂y[n, i, j, c]/∂x[n, a, e, c] = 1 where i // f = a and j // f = e, else 0
#                dx[n, a, e, c] = Σ_u Σ_v dy[n, f a + u, f e + v, c]                         the sum of the block
#     bilinear:  ∂y[n, i, j, c]/∂x[n, a, e, c] = A[i, a] B[j, e]
#                dx[n, a, e, c] = Σ_i Σ_j A[i, a] B[j, e] dy[n, i, j, c]                     Aᵀ and Bᵀ
#
# The transpose, not the inverse: with ones everywhere Σ x dx = Σ y dy says that Σ dx is the number of pixels of y.

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
        n, height, width, C = self.x_shape
        return dy.reshape(n, height, self.factor, width, self.factor, C).sum(axis=(2, 4))


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
        return np.einsum("ia,je,nijc->naec", self.A, self.B, dy)
