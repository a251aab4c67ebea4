# %% [markdown]
# # Solution of exercise 8: tied weights
#
# With two matrices, y = h Dᵀ + c, h = f(z), z = x E + b, it is two dense layers:
#
#     dc[i] = Σ_n dy[n, i]          ∂L/∂D[i, j] = Σ_n dy[n, i] h[n, j]          dh[n, j] = Σ_i dy[n, i] D[i, j]
#     dz = dh h (1 - h)
#     db[j] = Σ_n dz[n, j]          ∂L/∂E[i, j] = Σ_n x[n, i] dz[n, j]          dx[n, i] = Σ_j dz[n, j] E[i, j]
#
# E and D are the same W, so by the chain rule for several arguments dW = ∂L/∂E + ∂L/∂D = xᵀ dz + dyᵀ h: a sum.

# %%
import numpy as np

from npae.params import Param


class TiedPair:
    """h = sigmoid(x W + b), y = h Wᵀ + c;   x (N, I) -> y (N, I),  W (I, J), b (J,), c (I,)"""

    def __init__(self, in_features: int, code: int, rng: np.random.Generator):
        self.W = Param("W", rng.normal(size=(in_features, code)).astype(np.float32))
        self.b = Param("b", np.zeros(code, np.float32))
        self.c = Param("c", np.zeros(in_features, np.float32))
        self.params = (self.W, self.b, self.c)

    def forward(self, x):
        self.x = x
        self.h = 1 / (1 + np.exp(-(x @ self.W.value + self.b.value)))
        return self.h @ self.W.value.T + self.c.value

    def backward(self, dy):
        self.c.grad += dy.sum(axis=0)
        dz = dy @ self.W.value * self.h * (1 - self.h)
        self.b.grad += dz.sum(axis=0)
        self.W.grad += self.x.T @ dz + dy.T @ self.h
        return dz @ self.W.value.T
