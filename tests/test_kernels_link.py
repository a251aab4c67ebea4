"""Loops that kernels share are compiled once a dtype: what they are given, what they refuse, and that it is so."""
import os
import subprocess
import sys

import llvmlite.binding
import numpy as np
import pytest
from numba import njit

from npae.kernels import fast  # noqa: F401  (makes known which functions are linked)
from npae.kernels.fast_activation import SIGMOID, apply
from npae.kernels.fast_link import LINKED, ready
from npae.kernels.fast_panel import pack
from npae.kernels.fast_picture import place
from npae.kernels.fast_tile import lanes, turn


@njit
def _bend(z, code, alpha):
    apply(z, code, alpha)


@njit
def _copy(rows, n, x, x0, ldx, y, y0, ldy):
    place(rows, n, x, x0, ldx, y, y0, ldy)


@njit
def _pack(K, n, b, b0, ldb, turned, room, width):
    pack(K, n, b, b0, ldb, turned, room, width)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_any_shape_are_seen_flat_and_numbers_arrive_as_they_are(dtype):
    ready(dtype)
    z = np.linspace(-3, 3, 24).astype(dtype).reshape(2, 3, 4)
    want = 1 / (1 + np.exp(-z))
    _bend(z, SIGMOID, 0.0)
    np.testing.assert_allclose(z, want, rtol=1e-6)
    slope = np.array([[-2.0, 5.0]], dtype)
    _bend(slope, 2, 0.25)  # leaky ReLU
    np.testing.assert_array_equal(slope, [[-0.5, 5.0]])
    x, y = np.arange(12, dtype=dtype).reshape(3, 4), np.zeros((4, 5), dtype)
    _copy(2, 3, x, 1, 4, y, 7, 5)
    want = np.zeros((4, 5))
    want[1:3, 2:5] = x[:2, 1:4]
    np.testing.assert_array_equal(y, want)


def test_what_is_not_in_c_order_or_of_another_dtype_is_refused_when_it_is_compiled():
    ready(np.float32)
    x, y = np.zeros((3, 4), np.float32), np.zeros((4, 5), np.float32)
    with pytest.raises(TypeError, match=r"place: x is array\(float32, 2d, F\), but must be of float32 in C order"):
        _copy(2, 3, np.asfortranarray(x), 0, 4, y, 0, 5)
    with pytest.raises(TypeError, match=r"place: y is array\(float64, 2d, C\), but must be of float32 in C order"):
        _copy(2, 3, x, 0, 4, y.astype(np.float64), 0, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("turned", [False, True])
def test_a_panel_is_laid_out_with_nothing_but_zeros_beside_it(dtype, turned):
    ready(dtype)
    wide = 2 * lanes(dtype)
    for n in (1, lanes(dtype) - 1, lanes(dtype), wide - 1, wide):
        for K in (1, lanes(dtype), lanes(dtype) + 3, 3 * lanes(dtype)):
            B = np.arange(1, 1 + (K + 2) * (n + 3), dtype=dtype).reshape(K + 2, n + 3)
            given = np.ascontiguousarray(B.T) if turned else B
            room = np.full((K + 1, wide), np.nan, dtype)
            _pack(K, n, given, given.shape[1] + 1, given.shape[1], turned, room, wide)
            np.testing.assert_array_equal(room[:K, :n], B[1:K + 1, 1:n + 1])
            assert not room[:K, n:].any() and np.isnan(room[K]).all(), (n, K)


def test_every_linked_function_is_known_by_its_name_for_a_dtype_that_is_ready():
    ready(np.float64)
    assert {"product", "turn", "pack", "panel", "apply", "place"} <= set(LINKED)
    assert all(llvmlite.binding.address_of_symbol(f"npae_{name}_float64") for name in LINKED)
    assert turn.linked is LINKED["turn"] and turn.linked.arrays == "a b"


COUNT = """
from numba.core import event
compiled = []
class Listener(event.Listener):
    def on_start(self, e): compiled.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e): pass
event.register("numba:compile", Listener())
import numpy as np
from npae import layers
for size in (30, 40):
    layer = layers.Dense(size, 50, activation="relu", rng=0)
    layer.backward(layer.forward(np.ones((2, size), np.float32)))
names = [name for name in compiled if name in ("product", "turn", "pack", "panel", "apply", "times_slope", "place")]
assert sorted(names) == sorted(set(names)) and len(names) == 7, names
"""


def test_a_loop_that_many_kernels_share_is_compiled_once(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
