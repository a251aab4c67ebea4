"""Where windows lie: sizes and padding against a count by hand, and errors that carry both numbers."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npae.kernels.geometry import Geometry, bilinear_taps, pair, transposed_geometry, window_geometry
from npae.lab import oracles

PADDINGS = ["same", "valid", 0, 1, 2]
sizes, kernels, strides = st.integers(1, 12), st.integers(1, 6), st.integers(1, 5)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(sizes, kernels, strides, st.sampled_from(PADDINGS))
def test_windows_are_as_many_as_can_be_counted_and_begin_where_tensorflow_says(n, k, s, padding):
    if padding != "same" and k > n + 2 * (0 if padding == "valid" else padding):
        with pytest.raises(ValueError, match=rf"a kernel of \({k}, {k}\) does not fit into an input of \({n}, {n}\)"):
            window_geometry(n, k, s, padding)
        return
    g = window_geometry((n, n + 1), (k, 1), (s, 2), padding)
    assert g.output_size[0] == oracles.windows(n, k, s, padding)
    assert g.padding[0] == oracles.zeros_in_front(n, k, s, padding)
    assert g.padded_size[0] == max((g.output_size[0] - 1) * s + k, g.padding[0] + n)  # the last window, the last row


@settings(deadline=None, derandomize=True, max_examples=200)
@given(sizes, kernels, strides, st.sampled_from(PADDINGS))
def test_a_transposed_geometry_is_that_of_the_convolution_back(n, k, s, padding):
    zeros = padding if isinstance(padding, int) else 0
    large = n * s if padding == "same" else (n - 1) * s + k - 2 * zeros
    if large < 1:
        with pytest.raises(ValueError, match=f"padding {zeros} takes all of the {(n - 1) * s + k} rows"):
            transposed_geometry(n, k, s, padding)
        return
    g = transposed_geometry(n, k, s, padding)
    assert g.input_size == (large, large) and g.output_size == (n, n)
    assert g == window_geometry(large, k, s, padding)


def test_an_odd_zero_of_same_padding_goes_to_the_bottom_right():
    assert window_geometry(4, 2, 1, "same") == Geometry((4, 4), (2, 2), (1, 1), (0, 0), (4, 4))
    assert window_geometry((5, 6), (4, 3), 2, "same") == Geometry((5, 6), (4, 3), (2, 2), (1, 0), (3, 3))


def test_height_and_width_are_not_mixed_up():
    g = window_geometry((9, 4), (3, 2), (4, 1), 1)
    assert g == Geometry((9, 4), (3, 2), (4, 1), (1, 1), (3, 5))
    assert g.padded_size == (11, 6)
    assert window_geometry((9, 4), (3, 2), (5, 1), 1).padded_size == (10, 6)  # the input's last row, beyond the windows


@pytest.mark.parametrize("wrong", [0, -1, 1.5, (1, 2, 3), (1, 0), (1, 2.0), (True, 1)])
def test_a_size_that_is_no_pair_of_positive_integers_is_refused_as_it_stands(wrong):
    with pytest.raises((ValueError, TypeError), match=r"kernel_size must be an integer of at least 1|not iterable"):
        pair(wrong, "Conv2d: kernel_size")


def test_numpy_integers_and_lists_are_sizes_too():
    assert pair(np.int64(3), "stride") == (3, 3) and pair([2, np.int32(5)], "stride") == (2, 5)


@pytest.mark.parametrize("wrong", ["SAME", -1, 1.0, None, True, "full"])
def test_an_unknown_padding_is_refused_with_the_known_ones(wrong):
    for geometry in (window_geometry, transposed_geometry):
        with pytest.raises(ValueError, match=f"'same', 'valid' or an integer of at least 0, got {wrong!r}"):
            geometry(8, 3, 1, wrong)


@pytest.mark.parametrize("size, factor", [(1, 1), (1, 3), (4, 2), (5, 3), (7, 1)])
def test_bilinear_taps_mix_two_neighbours_to_a_line_that_is_flat_at_the_edges(size, factor):
    low, high, share = bilinear_taps(size, factor)
    assert ((low >= 0) & (high < size) & (high - low <= 1) & (share >= 0) & (share < 1)).all()
    line = (1 - share) * low + share * high  # what becomes of y = x: the position itself, held at the edges
    at = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    assert np.allclose(line, at, rtol=0, atol=1e-15 * size)
