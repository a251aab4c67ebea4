# %% [markdown]
# # Exercise 2: ReLU and sigmoid
#
# Two layers without weights, which bend each number by itself:
#
#     ReLU:     y[k] = max(x[k], 0)
#     sigmoid:  y[k] = 1 / (1 + exp(-x[k]))            (k runs over all entries, whatever the shape)
#
# ## On paper
# dy[k] = ∂L/∂y[k] is given, dx[k] = ∂L/∂x[k] is owed. Begin with
#
#     ∂L/∂x[k] = Σ_l dy[l] ∂y[l]/∂x[k]
#
# 1. What does y[l] know of x[k] if l is not k? So how many terms has the sum, and is there any matrix to multiply with?
# 2. ReLU: draw it. What is its slope on the left, what on the right? At x = 0 there is none: what do you take, and why
#    does it hardly matter?
# 3. Sigmoid: derive ∂y/∂x as a function of x. Then write it as a function of y alone: what becomes of exp(-x) when you
#    put 1 / (1 + exp(-x)) = y in? What is gained by that?
#
# ## Before you write
# - dx has the shape of x, and so has everything else here. The same lines have to do for (N, D) and (N, H, W, C).
# - From which array is the mask of ReLU made: from x, from y, or from dy? Two of these do. Which one never does?
# - Sigmoid keeps y. If you put y into the derivative in x, or x into the derivative in y, what will a check say?
# - dy belongs to the caller, who may need it again. Does `dy[mask] = 0` leave it alone?
# - There is no dot test here: Σ y dy = Σ x dx asks for a linear map. What is ReLU at 2x - 3x', beside 2 and -3 times?

# %%
import numpy as np


class ReLU:
    """y = max(x, 0);   x and y of any shape"""

    params = ()

    def forward(self, x):
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dy):
        """Return dx."""
        raise NotImplementedError("backward of ReLU: return dx")


class Sigmoid:
    """y = 1 / (1 + exp(-x));   x and y of any shape"""

    params = ()

    def forward(self, x):
        y = 1 / (1 + np.exp(-x))
        self.y = y.copy()  # the caller may write into y; this one is ours
        return y

    def backward(self, dy):
        """Return dx, from self.y."""
        raise NotImplementedError("backward of Sigmoid: return dx")


# %% [markdown]
# ## Check it
# `npae grade 2_relu_sigmoid.py` goes through both in stages and gives a hint where one fails. The table of all
# derivatives, yours beside those of differences:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    for layer in (ReLU, Sigmoid):
        print(gradcheck.check_layer(layer, (3, 5)))
