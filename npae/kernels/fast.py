"""The kernels of `reference` compiled by Numba: the same names, signatures and numbers (to rounding), much faster.

A convolution is a matrix product. An output pixel has O numbers, and each is a sum over the same window of kh kw C
numbers, with weights of its own: the window, as a row, times W as a matrix (kh kw C, O). Stack the windows of all
pixels, and one product (N oh ow, kh kw C) @ (kh kw C, O) is the whole layer. What makes a matrix product fast is that
every number is used often: a window O times, a weight once for each pixel. All below is about fetching it once.

Windows need not be laid out. In a zero-padded NHWC picture the part of a window that lies in one kernel row, kw pixels
with C channels each, is a run of neighbours in memory, and the window of the next output begins s C numbers further on.
So "row j of the left matrix" is a place in the picture, j s C, and a row of outputs is a sum of kh short products, one
for each kernel row. These rows overlap. BLAS takes no such matrix; a loop of our own does.

A register tile. A core with AVX-512 multiplies and adds two vectors of 16 float32 in every cycle, but it fetches only
two vectors meanwhile, and a sum has to wait some four cycles for its own last addition. A loop that fetches a weight
and an output, adds, and stores the output again is therefore busy fetching. So a tile of outputs, 14 pixels x 32
channels, stays in 28 of the 32 vector registers until its sums are done. One step along the sum then fetches 2 vectors
of weights and 14 numbers of the picture, which is all that 28 multiply-adds need; no sum waits, since 27 others come
between; and each output is stored once. A machine with fewer or narrower registers takes a smaller tile.

Why the loops stand in this order, from the inside out:
    channels o, 16 a vector      neighbours in W and in y: one instruction does all of them
    the tile, 14 x 2 vectors     written out, no loop: its sums have names, and so live in registers
    (v, c), then u               the sum. It must be inside the tile's pixels, or the tile would leave the registers
    pixels, then 32 channels     the next tile of the row, the next strip of W; rows of x are in the nearest cache
    rows i of outputs            three rows of x move on by one, and W stays in the second cache
    pictures                     outermost, for threads: what one of them writes no other one reads

Last, bias and ReLU are done while the outputs are still at hand, not by two more walks through the memory.

What each idea buys, for conv-vae's middle layer (14 x 14 x 64 -> 64, 3 x 3, 16 pictures), with one thread, in one
run of `python benchmarks/ladder.py` on a core whose peak, by np.dot, is 155 GF/s:
    seven loops in Python       0.007 GF/s
    the same, compiled              2.0        x 288     no interpreter
    o innermost                      19        x 9.2     vector instructions
    im2col + BLAS                    63        x 3.4     registers and caches used well, but x is copied nine times over
    in place, kh kw np.dots         111        x 1.8     nothing laid out
    register tile                   148        x 1.3     kh products; outputs stored once
    the layer: + b, then ReLU       130
    the layer, fused                142        x 1.1     no more walks through y

Where to read: fast_tile (the tile); fast_picture, fast_conv_chunks and fast_conv; fast_panel and fast_dense;
fast_parallel (how every core is used) and fast_link (how loops are shared); fast_activation and its fast_math,
fast_pool, fast_training, fast_moments.
"""
# ruff: noqa: F401  (what is imported here is what this module is for; its door plates are those of reference)
from __future__ import annotations

from npae.kernels.fast_activation import activate, activate_input_grad
from npae.kernels.fast_conv import (
    conv2d,
    conv2d_backward,
    conv2d_forward,
    conv2d_input_grad,
    conv2d_transpose_backward,
    conv2d_transpose_forward,
    conv2d_weight_grad,
)
from npae.kernels.fast_dense import dense_backward, dense_forward
from npae.kernels.fast_moments import moments, squared_distance
from npae.kernels.fast_pool import (
    avg_pool2d,
    avg_pool2d_input_grad,
    max_pool2d,
    max_pool2d_input_grad,
    upsample2d_bilinear,
    upsample2d_bilinear_input_grad,
    upsample2d_nearest,
    upsample2d_nearest_input_grad,
)
from npae.kernels.fast_training import (
    adam_step,
    bernoulli_nll,
    momentum_step,
    rmsprop_step,
    sgd_step,
    squared_error,
    sum_of_squares,
)
from npae.kernels.reference import __all__ as __all__
