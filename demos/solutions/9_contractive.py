# %% [markdown]
# # Solution of exercise 9: the contractive penalty
#
#     ∂jac/∂s = 2 s w,     ∂s/∂h = 1 - 2 h,     ∂h/∂z = s
#     dz[n, j] = djac[n] 2 s[n, j]² w[j] (1 - 2 h[n, j])
#     db = Σ_n dz,     dx = dz Wᵀ,     ∂L/∂W by way of h = xᵀ dz
#
#     ∂jac/∂w = s²,    ∂w[j]/∂W[i, j] = 2 W[i, j]
#     ∂L/∂W[i, j] by way of w = 2 W[i, j] Σ_n djac[n] s[n, j]²                    dW is the sum of both
#
# 1 - 2 h changes sign at ½: the penalty pushes every unit away from there, into saturation. With s = 1 only the second
# contribution is left, dW = 2 W Σ_n djac: weight decay.

# %%
import numpy as np

from npae.params import Param


class ContractivePenalty:
    """jac = ‖∂h/∂x‖² of h = sigmoid(x W + b);   x (N, I) -> jac (N,),  W (I, J), b (J,)"""

    def __init__(self, in_features: int, code: int, rng: np.random.Generator):
        self.W = Param("W", rng.normal(size=(in_features, code)).astype(np.float32))
        self.b = Param("b", np.zeros(code, np.float32))
        self.params = (self.W, self.b)

    def forward(self, x):
        self.x = x
        self.h = 1 / (1 + np.exp(-(x @ self.W.value + self.b.value)))
        self.s = self.h * (1 - self.h)
        self.w = (self.W.value**2).sum(axis=0)
        return self.s**2 @ self.w

    def backward(self, djac):
        dz = djac[:, None] * 2 * self.s**2 * self.w * (1 - 2 * self.h)
        self.b.grad += dz.sum(axis=0)
        self.W.grad += self.x.T @ dz + 2 * self.W.value * (djac @ self.s**2)
        return dz @ self.W.value.T
