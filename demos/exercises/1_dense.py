# %% [markdown]
# # Exercise 1: a dense layer
#
# N pictures of I numbers come in as the rows of x, O numbers each go out as the rows of y:
#
#     y[n, o] = Σ_i x[n, i] W[i, o] + b[o]
#
# ## On paper
# A loss L depends on y in some way that this layer does not know. All that it is told is dy[n, o] = ∂L/∂y[n, o]. What
# it owes is ∂L/∂b, ∂L/∂W and ∂L/∂x. Begin with the chain rule, and with other letters for the indices summed over:
#
#     ∂L/∂b[o]    = Σ_m Σ_p dy[m, p] ∂y[m, p]/∂b[o]
#     ∂L/∂W[i, o] = Σ_m Σ_p dy[m, p] ∂y[m, p]/∂W[i, o]
#     ∂L/∂x[n, i] = Σ_m Σ_p dy[m, p] ∂y[m, p]/∂x[n, i]
#
# 1. For which m and p is ∂y[m, p]/∂b[o] not zero? Which of the two sums is left, and which falls away?
# 2. Ask the same of W[i, o] and of x[n, i].
# 3. Write the three results without indices, with matrix products and transposes. What shape has each? A gradient has
#    the shape of what it is the gradient of: is there more than one order of the factors that fits?
#
# ## Before you write
# - x is (N, I), W is (I, O), b is (O,), dy is (N, O). Write the shapes of db, dW and dx on your paper.
# - The sum over the pictures: is it a sum or a mean? Where would a 1/N have to come from?
# - A second backward (of a second batch, say) has to *add* its gradients. Is that = or += ?
# - The dot test: with b = 0 y is linear in x. Why is Σ y dy = Σ x dx then, for every x and every dy? Such an equation
#   has no step size. What would a forgotten transpose do to it where I = O, so that no shape complains?

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
        """Add to self.b.grad and self.W.grad; return dx."""
        raise NotImplementedError("backward of Dense: add to self.b.grad and self.W.grad, return dx")


# %% [markdown]
# ## Check it
# `npae grade 1_dense.py` goes through it in stages and gives a hint where one fails; stages count singly, so write db
# first, then dW, then dx, and grade in between. The table of all derivatives, yours beside those of differences:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    print(gradcheck.check_layer(lambda: Dense(5, 3, np.random.default_rng(0)), (4, 5)))
