# %% [markdown]
# # Solution of exercise 1: a dense layer
#
# y[m, p] = Σ_i x[m, i] W[i, p] + b[p]; δ is 1 where its two indices are equal, and 0 elsewhere.
#
#     ∂y[m, p]/∂b[o]    = δ[p, o]             db[o]    = Σ_m dy[m, o]               db = Σ_n dy
#     ∂y[m, p]/∂W[i, o] = x[m, i] δ[p, o]     dW[i, o] = Σ_m x[m, i] dy[m, o]       dW = xᵀ dy
#     ∂y[m, p]/∂x[n, i] = δ[m, n] W[i, p]     dx[n, i] = Σ_p dy[n, p] W[i, p]       dx = dy Wᵀ
#
# A sum over the pictures, not a mean: a 1/N, if there is one, has come down with dy.

# %%
import numpy as np

from npae.params import Param


class Dense:
    """y = x W + b;   x (N, I) -> y (N, O),  W (I, O), b (O,)"""

    def __init__(self, in_features: int, out_features: int, rng: np.random.Generator):
        self.W = Param("W", rng.normal(size=(in_features, out_features)).astype(np.float32))
        self.b = Param("b", np.zeros(out_features, np.float32))
        self.params = (self.W, self.b)  # each has .value, and .grad of the same shape

    def forward(self, x):
        self.x = x
        return x @ self.W.value + self.b.value

    def backward(self, dy):
        self.b.grad += dy.sum(axis=0)
        self.W.grad += self.x.T @ dy
        return dy @ self.W.value.T
