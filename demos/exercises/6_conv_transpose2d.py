# %% [markdown]
# # Exercise 6: a transposed convolution
#
# Each pixel of x stamps the kernel onto a larger picture, times its own value, in steps of s; stamps that overlap add
# up:
#
#     Y[n, s i + u, s j + v, o] += Σ_c x[n, i, j, c] W[u, v, o, c]   for all i, j, u, v;   y = Y without its border + b
#
# (p rows and columns are cut off on each side.) This is what the gradient of a convolution did in exercise 3.
#
# ## On paper
# dy = ∂L/∂y is given. Put the border back: dY is dy with zeros where p rows and columns were cut off. Begin with
#
#     ∂L/∂x[n, i, j, c]    = Σ_{u,v,o} dY[n, s i + u, s j + v, o] ∂Y[n, s i + u, s j + v, o]/∂x[n, i, j, c]
#     ∂L/∂W[u, v, o, c]    = Σ_{n,i,j} dY[n, s i + u, s j + v, o] ∂Y[n, s i + u, s j + v, o]/∂W[u, v, o, c]
#
# 1. How often does a pixel x[n, i, j, c] stamp, and where do its marks lie in Y? What is each of the two derivatives?
# 2. Compare dx with the forward of a convolution. Which picture is walked over by the window now, and what is the
#    kernel? Does it have to be turned by 180°?
# 3. Forward here is the backward of a convolution; so what is backward here? Say it in one sentence.
# 4. b[o] is added once to every pixel of y, also where no stamp has fallen. Over which axes of dy is db a sum, and
#    would it be the same with dY?
#
# ## Before you write
# - x is (N, H, W, C), W is (kh, kw, O, C), dy is (N, H', W', O) with H' = (H - 1) s + kh - 2 p. Note the shapes of db,
#   dW and dx. In which place of W stand the channels of x, and in which those of y?
# - forward visits one tap (u, v) after the other. With dY[met] you have what this tap has given: a (N, H, W, O) array.
#   What does it have to be multiplied with for dx, with what for dW, and which axes are summed over?
# - dx gets a share from each tap: = or += ?
# - The dot test: with b = 0, Σ y dy = Σ x dx. Where have you met this equation in exercise 3, with other letters?

# %%
import numpy as np

from npae.params import Param


class ConvTranspose2d:
    """y = stamps of W, x[n, i, j, c] high, + b;   x (N, H, W, C) -> y (N, H', W', O),  W (kh, kw, O, C), b (O,)"""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int, padding: int,
                 rng: np.random.Generator):
        self.W = Param("W", rng.normal(size=(*kernel_size, out_channels, in_channels)).astype(np.float32))
        self.b = Param("b", np.zeros(out_channels, np.float32))
        self.params = (self.W, self.b)
        self.stride, self.padding = stride, padding

    def taps(self, rows: int, columns: int):
        """For each (u, v): the slice of Y onto which this tap of the kernel falls from all (i, j)."""
        kh, kw, s = *self.W.value.shape[:2], self.stride
        for u in range(kh):
            for v in range(kw):
                yield u, v, np.s_[:, u:u + s * (rows - 1) + 1:s, v:v + s * (columns - 1) + 1:s]

    def forward(self, x):
        self.x = x
        n, rows, columns, _ = x.shape
        (kh, kw, O, _), s, p = self.W.value.shape, self.stride, self.padding
        Y = np.zeros((n, (rows - 1) * s + kh, (columns - 1) * s + kw, O), x.dtype)
        for u, v, met in self.taps(rows, columns):
            Y[met] += x @ self.W.value[u, v].T
        return Y[:, p:Y.shape[1] - p, p:Y.shape[2] - p] + self.b.value

    def backward(self, dy):
        """Add to self.b.grad and self.W.grad; return dx."""
        raise NotImplementedError("backward of ConvTranspose2d: add to self.b.grad and self.W.grad, return dx")


# %% [markdown]
# ## Check it
# `npae grade 6_conv_transpose2d.py` goes through it in stages and gives a hint where one fails; stages count singly, so
# write db first, then dW, then dx, and grade in between. The table of all derivatives, yours beside those of
# differences:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    print(gradcheck.check_layer(lambda: ConvTranspose2d(2, 3, (3, 4), 2, 1, np.random.default_rng(0)), (2, 3, 2, 2)))
