"""Bugs of compiled kernels, where nothing looks at bounds, empty arrays hold what was there before, and threads meet.
The words of a bug are those of the lines of `npae.lab.subjects.kernels`, which says how such a bug can be planted.
"""
from __future__ import annotations

from npae.lab.planting import Bug, Edit

FAST = "npae.kernels.fast_"


def _bug(subject: str, name: str, did: str, where: str, old: str, new: str, killed_by: str, *says: str) -> Bug:
    return Bug(subject, name, did, subject, (Edit(FAST + where, old, new),), killed_by, says)


BUGS: tuple[Bug, ...] = (
    _bug("fast_dense", "race_on_db", "Every block of rows of dW adds the same columns of dz to db, and not the first "
         "block alone.", "dense:_backward_chunk", "elif r0 == 0 and not swap:", "elif not swap:", "RS",
         "two tasks write to the same place"),
    _bug("fast_conv", "scratch_shared_by_tasks", "Every task pads its picture in the scratch of task 0.",
         "conv_chunks:_conv_forward_chunk", "xp, z = xp[k], z[k]", "xp, z = xp[0], z[0]", "S",
         "two tasks write to the same place"),
    _bug("fast_pool", "empty_used_with_plus", "dx comes from np.empty and is added to, never cleared.",
         "pool:_max_pool_grad", "    dx[n] = 0\n", "", "S", "as np.empty left it"),
    _bug("fast_conv", "padding_never_cleared", "The border of the padded picture is what np.empty left there.",
         "conv_chunks:_conv_forward_chunk", "    clear(xp)\n", "", "S", "as np.empty left it"),
    _bug("fast_pool", "negative_index_wraps", "Nothing holds the window inside the picture on the top: row -1 is the "
         "last row.", "pool:_avg_pool", "range(max(0, sh * i - top), ", "range(sh * i - top, ", "RS",
         "below 0 wraps round"),
    _bug("fast_pool", "window_over_the_end", "Nothing holds the window inside the picture on the right.",
         "pool:_avg_pool_grad", "min(w, sw * j - left + kw)", "sw * j - left + kw", "S", "beyond the end"),
    _bug("fast_upsampling", "height_for_width", "The columns are counted by the height of the picture.",
         "pool:_nearest", "for j in range(y.shape[2])", "for j in range(y.shape[1])", "S",
         "beyond the end|as np.empty left it"),
    _bug("fast_pool", "winner_in_int8", "The place of the winner is kept in 8 bits: of a window of 132 places the last "
         "ones become negative (with 32 bits it takes an array of 2^31 numbers).",
         "pool:max_pool2d", "np.empty(shape, np.int32)", "np.empty(shape, np.int8)", "R", "max_pool2d", "int8"),
    _bug("fast_activation", "relu_swallows_nan", "z if z > 0 else 0: a NaN is not above 0.",
         "activation:apply", "z[i] = zero if z[i] <= zero else z[i]", "z[i] = z[i] if z[i] > zero else zero", "S",
         "a NaN is swallowed"),
    _bug("fast_pool", "max_pool_swallows_nan", "x > best: a NaN never wins.",
         "pool:_max_pool", "(best == best and not x[n, a, b, c] <= best)", "x[n, a, b, c] > best", "S",
         "a NaN is swallowed"),
    _bug("fast_pool", "fastmath", "fastmath=True: the compiler may assume that there are no NaNs.",
         "parallel:inner", "no_cfunc_wrapper=True, **OPTIONS", "no_cfunc_wrapper=True, fastmath=True, **OPTIONS", "S",
         "a NaN is swallowed"),
    _bug("fast_pool", "float64_from_float32", "The result is allocated without a dtype, so it is float64.",
         "pool:avg_pool2d", "x.shape[3]), x.dtype)", "x.shape[3]))", "S", "float64 comes out of float32"),
    _bug("fast_activation", "memory_order", "x is laid flat in the order of the memory, and y in that of C.",
         "activation:activate", "x.reshape(-1), code", 'x.ravel("K"), code', "S", "the order in memory"),
    _bug("fast_dense", "chunks_by_threads", "A sum in as many parts as threads: its order hangs on the machine.",
         "dense:_pieces", "return 1 << max(1, min(most, work // GRAIN)).bit_length() - 1",
         "import numba\n    return min(most, numba.get_num_threads())", "S",
         "the number of threads"),
    _bug("fast_training", "tail_of_the_sum", "Numbers left over by the steps of four are left out.",
         "training:_sum", "for i in range(whole, terms.size):", "for i in range(whole, whole):", "R",
         "bernoulli_nll", "result 0 is off by"),
    _bug("fast_training", "last_block_left_out", "The number of blocks is rounded down.",
         "training:_blocks", "-(-vector.size // BLOCK)", "vector.size // BLOCK", "R", "sgd_step", "result 0 is off by"),
    _bug("fast_training", "scale_by_the_pixels", "dlogits is divided by the length of a picture.",
         "training:bernoulli_nll", "1 / len(logits)", "1 / logits.shape[1]", "R",
         "bernoulli_nll", "result 1 is off by"),
    _bug("fast_conv", "partial_sums_lost", "Only the first chunk's partial weight gradient is added.",
         "conv_chunks:_add_rows", "range(1, partial.shape[0])", "range(1, 1)", "R", "conv2d", "result 1 is off by"),
    _bug("fast_conv", "pictures_overwrite_dW", "Every picture's weight gradient begins with zeros, and not with "
         "that of those before it.", "conv_chunks:_conv_backward_chunk", "        d, ldd = dW.reshape(-1), o\n", "",
         "R", "conv2d", "result 1 is off by"),
    _bug("fast_conv", "first_picture_adds", "The first picture's weight gradient, too, is added to what is there: "
         "np.empty.", "conv_chunks:_conv_backward_chunk", "d, ldd = none, ONE_ROW", "d, ldd = dW.reshape(-1), o", "S",
         "as np.empty left it"),
    _bug("fast_conv", "phases_not_turned", "The taps of a phase are laid out as they stand in the kernel, and not last "
         "tap first.", "picture:pack_phases", "u, v = r + sh * (taps - 1 - m), t + sw * (across - 1 - n)",
         "u, v = r + sh * m, t + sw * n", "R", "conv2d", "result 3 is off by"),
    _bug("fast_conv", "narrow_kernel_not_turned", "A convolution with few channels out is made as a transposed one, "
         "and its kernel is not turned round for it.", "conv:_as_transposed", "W[::-1, ::-1].transpose", "W.transpose",
         "R", "conv2d", "result 0 is off by"),
    _bug("fast_dense", "first_part_adds", "The first part of a long sum, too, is added to what is there: np.empty.",
         "panel:panel", "(k if turned else k * ldb)\n",
         "(k if turned else k * ldb)\n        d, d0, ldd = c, c0, ldc\n", "S", "as np.empty left it"),
    _bug("fast_dense", "packed_rows_found_twice", "The rows of x have been laid out, and are still counted from the "
         "first picture.", "dense:weight_grad_chunk", "tall, -n0 * rows, rows", "tall, 0, rows", "S", "beyond the end"),
    _bug("fast_dense", "scratch_of_the_mean_block", "Rows are cut into blocks that differ by one, and the scratch is "
         "as long as the shortest.", "dense:_grid", "-(-rows // blocks)\n", "rows // blocks\n", "S", "beyond the end"),
    _bug("fast_dense", "turn_without_the_rest", "A matrix is turned square by square, and the last rows, which are "
         "no whole square, are forgotten.", "tile:turn", "range(0, rows, lanes)", "range(0, rows - lanes + 1, lanes)",
         "S", "as np.empty left it"),
    _bug("fast_dense", "tied_db_of_each_block", "Where dW is a transposed view, every block of its columns adds the "
         "same sums to db.", "dense:_backward_chunk", "if swap and j0 == 0:", "if swap:", "RS",
         "two tasks write to the same place"),
    _bug("fast_activation", "tanh_cancels", "(1 - e) / (1 + e) with e = exp(-2 |x|) for small x too, where 1 - e has "
         "lost its digits.", "math:_typed_tanh", "return small if a < middle else (-large if x < zero else large)",
         "return -large if x < zero else large", "R", "tanh", "result 0 is off by"),
    _bug("compiled cache", "stale_cache", "The cache asks one file alone whether its sources have changed.",
         "parallel:_cache_folder", "for path in SOURCES)", "for path in SOURCES[:1])", "S",
         "compiled code of before"),
)

NOT_HERE: dict[str, str] = {
    "int32_index_overflow": "it takes an array of 2^31 numbers, 8 GB in float32; winner_in_int8 is its twin",
    "called_from_two_threads": "the loop has one user at a time, a second thread computes without it: a bug there ends "
                               "the process, and no line of a report comes back from it",
}
