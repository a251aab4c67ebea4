"""The kernels of `reference` compiled by Numba: the same names, signatures and numbers (to rounding), much faster.
Where to read: fast_parallel (how every core is used), fast_conv and its fast_tile, fast_dense, fast_pool,
fast_activation, fast_training.
"""
# ruff: noqa: F401  (what is imported here is what this module is for; its door plates are those of reference)
from __future__ import annotations

from pathlib import Path

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


def _one_thread_for_blas() -> None:
    """Keep the BLAS that compiled code calls (SciPy's) to one thread: the parallel loops here already use every core.

    NumPy's own BLAS is left alone where it is another library, so that a user's matrix products stay parallel.
    """
    import scipy.linalg.cython_blas  # loads the library that np.dot uses inside compiled code
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    ours = [lib for lib in blas.lib_controllers if "scipy" in Path(lib.filepath).parent.name]
    for lib in ours or blas.lib_controllers:
        lib.set_num_threads(1)


_one_thread_for_blas()
