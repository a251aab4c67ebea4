# %% [markdown]
# # Exercise 3: a convolution, by im2col
#
# A window of kh x kw pixels walks over the picture in steps of s, after p rows and columns of zeros were put around it:
#
#     y[n, i, j, o] = Σ_u Σ_v Σ_c  X[n, s i + u, s j + v, c] W[u, v, c, o] + b[o]        (X: x with its border of zeros)
#
# `im2col` lays each window out as a row, so that the sum becomes a matrix product:
#
#     cols[n, i, j, (u, v, c)] = X[n, s i + u, s j + v, c]           y = cols W + b, with W as a (kh kw C, O) matrix
#
# ## On paper
# dy[n, i, j, o] = ∂L/∂y[n, i, j, o] is given. You have done the dense layer: use it. Begin with
#
#     ∂L/∂W[u, v, c, o] = Σ_{n,i,j} dy[n, i, j, o] ∂y[n, i, j, o]/∂W[u, v, c, o]
#     ∂L/∂X[n, a, e, c] = Σ_{i,j,u,v}  ∂L/∂cols[n, i, j, (u, v, c)]  over all windows in which the pixel (a, e) stands
#
# 1. Over which of the four axes of dy is db a sum? How often does b[o] stand in y?
# 2. With the windows as rows, what is dW, and what is dcols? In which order do the axes of dW come out?
# 3. A pixel in the middle stands in many windows, one in the corner in few. How many with a 3 x 3 kernel and stride 1?
#    What does the pixel get from each of them: the last one's share, the mean, or the sum?
# 4. Which places of ∂L/∂X are those of x, and what becomes of the gradient of the border?
#
# ## Before you write
# - x is (N, H, W, C), W is (kh, kw, C, O), dy is (N, H', W', O). Write the shapes of db, dW, dcols and dx.
# - im2col takes the pixels of one tap (u, v) out with a slice. The way back has the same slice on the other side of a
#   sign: = or += ? Do the slices of one tap overlap? Do those of two taps?
# - Where the stride does not divide, some rows at the end are in no window. What is their gradient, and will a dx made
#   from the shape of dy have these rows?
# - The dot test: with b = 0, Σ y dy = Σ x dx and also Σ y dy = Σ W dW. Why both?

# %%
import numpy as np

from npae.params import Param


class Conv2d:
    """y = im2col(x) W + b;   x (N, H, W, C) -> y (N, H', W', O),  W (kh, kw, C, O), b (O,)"""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int, padding: int,
                 rng: np.random.Generator):
        self.W = Param("W", rng.normal(size=(*kernel_size, in_channels, out_channels)).astype(np.float32))
        self.b = Param("b", np.zeros(out_channels, np.float32))
        self.params = (self.W, self.b)
        self.stride, self.padding = stride, padding

    def taps(self, rows: int, columns: int):
        """For each (u, v): the slice of X that this tap of the kernel meets at all (i, j)."""
        kh, kw, s = *self.W.value.shape[:2], self.stride
        for u in range(kh):
            for v in range(kw):
                yield u, v, np.s_[:, u:u + s * (rows - 1) + 1:s, v:v + s * (columns - 1) + 1:s]

    def im2col(self, x):
        """cols (N, H', W', kh kw C), the window at (i, j) as a row."""
        (kh, kw, C, _), p = self.W.value.shape, self.padding
        X = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        rows, columns = ((size - k) // self.stride + 1 for size, k in zip(X.shape[1:3], (kh, kw), strict=True))
        cols = np.empty((len(x), rows, columns, kh, kw, C), x.dtype)
        for u, v, met in self.taps(rows, columns):
            cols[:, :, :, u, v] = X[met]
        return cols.reshape(len(x), rows, columns, kh * kw * C)

    def forward(self, x):
        self.x_shape = x.shape
        self.cols = self.im2col(x)
        return self.cols @ self.W.value.reshape(-1, len(self.b.value)) + self.b.value

    def backward(self, dy):
        """Add to self.b.grad and self.W.grad; return dx."""
        raise NotImplementedError("backward of Conv2d: add to self.b.grad and self.W.grad, return dx")


# %% [markdown]
# ## Check it
# `npae grade 3_conv2d.py` goes through it in stages and gives a hint where one fails; stages count singly, so write db
# first, then dW, then dx, and grade in between. The table of all derivatives, yours beside those of differences:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    print(gradcheck.check_layer(lambda: Conv2d(2, 3, (3, 2), 2, 1, np.random.default_rng(0)), (2, 6, 5, 2)))
