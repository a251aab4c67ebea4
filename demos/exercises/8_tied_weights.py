# %% [markdown]
# # Exercise 8: tied weights
#
# An autoencoder whose decoder is its encoder's transpose. One matrix W does both, and has one gradient:
#
#     h[n, j] = sigmoid( Σ_i x[n, i] W[i, j] + b[j] )
#     y[n, i] = Σ_j h[n, j] W[i, j] + c[i]                        without indices: h = f(x W + b),   y = h Wᵀ + c
#
# ## On paper
# dy[n, i] = ∂L/∂y[n, i] is given; db, dc, dW and dx are owed. W stands in y twice: once before your eyes, and once
# within h. Pretend for a while that they were two matrices, E in the encoder and D in the decoder: h = f(x E + b),
# y = h Dᵀ + c. Begin with
#
#     ∂L/∂W[i, j] = ∂L/∂E[i, j] + ∂L/∂D[i, j]                   (why? which rule of calculus is this?)
#     ∂L/∂D[i, j] = Σ_m Σ_k dy[m, k] ∂y[m, k]/∂D[i, j]
#
# 1. Derive ∂L/∂c, ∂L/∂D and dh = ∂L/∂h as in exercise 1. The matrix is transposed now: what becomes of its gradient?
# 2. Take dh through the sigmoid (exercise 2): dz = ∂L/∂z, where h = f(z).
# 3. Derive ∂L/∂E, ∂L/∂b and dx from dz, as in exercise 1.
# 4. Write dW as the sum of two matrix products. Both must have the shape of W, (I, J): check it.
#
# ## Before you write
# - x, y, dx and dy are (N, I), h is (N, J), W is (I, J), b is (J,), c is (I,).
# - Both contributions have to come out as (I, J). If one comes out as (J, I), what is to be done, and what if I = J?
# - There is one W.grad: what happens to the first contribution if the second is written with = ?
# - Would it be right to divide the sum by two, because there are two of them?
# - With W = 0 one of the two contributions is zero. Which? Would a check that begins at W = 0 see that the other is
#   missing?

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
        """Add to self.c.grad, self.b.grad and self.W.grad; return dx."""
        raise NotImplementedError("backward of TiedPair: add to self.c.grad, self.b.grad and self.W.grad, return dx")


# %% [markdown]
# ## Check it
# `npae grade 8_tied_weights.py` goes through it in stages and gives a hint where one fails; stages count singly, so
# write dc and db first, then dW, then dx, and grade in between. The table of all derivatives, yours beside those of
# differences:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    print(gradcheck.check_layer(lambda: TiedPair(5, 3, np.random.default_rng(0)), (4, 5)))
