# %% [markdown]
# # Exercise 9: the contractive penalty
#
# A code h = sigmoid(x W + b) is to hardly move when its picture does. How much it moves is its Jacobian, and the
# penalty is the sum of its squares, one number a picture:
#
#     h[n, j] = sigmoid( Σ_i x[n, i] W[i, j] + b[j] )
#     ∂h[n, j]/∂x[n, i] = s[n, j] W[i, j],     s = h (1 - h)                       (check this first)
#     jac[n] = Σ_i Σ_j (∂h[n, j]/∂x[n, i])² = Σ_j s[n, j]² w[j],     w[j] = Σ_i W[i, j]²
#
# ## On paper
# djac[n] = ∂L/∂jac[n] is given; db, dW and dx are owed. A derivative is in the function itself here, so that its own
# derivative, the second one of the sigmoid, will come in. Begin with
#
#     ∂jac[n]/∂s[n, j]      and      ∂s[n, j]/∂h[n, j]      and      ∂h[n, j]/∂z[n, j]          (z = x W + b)
#
# 1. W stands in jac twice: in w, and in s by way of h. Give both contributions a name (exercise 8!).
# 2. Derive the three factors above. Which of them change sign at h = ½, and what does that mean: where does the penalty
#    push a unit that is nearly linear, and where one that is nearly saturated?
# 3. Put together dz[n, j] = ∂L/∂z[n, j]. From there on it is exercise 1: db, dx, and one contribution to dW.
# 4. Derive the other contribution, ∂L/∂w[j] first, then ∂w[j]/∂W[i, j]. What is summed over n in it?
#
# ## Before you write
# - x and dx are (N, I), h, s and dz are (N, J), W is (I, J), b and w are (J,), jac and djac are (N,).
# - djac has one number a picture: how does (N,) multiply (N, J)? What goes wrong, in silence, if N = J?
# - Squares: there are two of them, s² and W². Where do their 2s go?
# - How often does h (1 - h) stand in dz, once or twice? Which of them is ds/dh, and which dh/dz?
# - Check the limit: for a linear code s = 1 and jac = Σ W². What is dW then, and which contribution is it?

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
        """Add to self.b.grad and self.W.grad; return dx."""
        raise NotImplementedError("backward of ContractivePenalty: add to self.b.grad and self.W.grad, return dx")


# %% [markdown]
# ## Check it
# `npae grade 9_contractive.py` goes through it in stages and gives a hint where one fails; stages count singly, so
# write db first, then dW, then dx, and grade in between. The table of all derivatives, yours beside those of
# differences:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    print(gradcheck.check_layer(lambda: ContractivePenalty(5, 3, np.random.default_rng(0)), (4, 5)))
