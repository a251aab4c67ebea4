"""Explanations of other shapes, kernels, strides and paddings than their own examples have."""
import itertools
import re

import numpy as np
import pytest

from npae.lab import explain

SHAPES = {"Dense": ["1,1", "3,4"], "TiedDense": ["1,2", "3,1"], "Conv2d": ["1,3,2,2", "1,2,5,1"],
          "ConvTranspose2d": ["1,1,3,1"], "TiedConvTranspose2d": ["1,5,3,2"], "UpsampleConv2d": ["1,1,2,3"],
          "MaxPool2d": ["1,2,4,2"], "AvgPool2d": ["3,3,2,1"], "Upsample2d": ["1,1,3,2"],
          "Upsample2d-bilinear": ["1,3,1,2"],
          "Flatten": ["1,3,1,2"], "Reshape": ["3,7", "1,9"], "Reparameterize": ["1,2", "3,6"], "Bernoulli": ["1,5"],
          "gaussian_kl_sampled": ["3,1"], "sparsity_kl": ["4,1"], "contractive": ["1,3"], "weight_decay": ["1,4"],
          "Gaussian": ["1,1"], "SquaredError": ["1,1"], "ReLU": ["1,1"], "MaskingNoise": ["1,1"]}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in SHAPES.items() for shape in shapes])
def test_another_shape_is_explained_as_well(name, shape):
    sizes = tuple(map(int, shape.split(",")))
    e = explain.explanation(name, sizes)
    assert e.ok, "\n".join(e.section("check")[0].lines())
    first = e.example.arrays[e.example.given[0]]
    assert first.size == np.prod(sizes) or name == "Reparameterize"


WINDOWS = [{"kernel": 3, "stride": 2, "padding": 1}, {"kernel": 2, "stride": 2, "padding": 1},
           {"kernel": 3, "stride": 1, "padding": "same"}, {"kernel": 3, "stride": 2, "padding": "valid"},
           {"kernel": 3, "stride": 2, "padding": "same"}, {"kernel": 4, "stride": 2, "padding": "same"}]
WINDOWED = ["Conv2d", "ConvTranspose2d", "TiedConvTranspose2d", "MaxPool2d", "AvgPool2d"]


@pytest.mark.parametrize("setting", WINDOWS, ids=str)
@pytest.mark.parametrize("name", WINDOWED)
def test_the_formulas_hold_with_a_stride_and_with_padding(name, setting):
    """With s = 1 and p = 0 a wrong sign of either would not be seen."""
    e = explain.explanation(name, (1, 3, 3, 1) if name == "ConvTranspose2d" else (1, 4, 4, 1), **setting)
    assert e.ok, "\n".join(e.section("check")[0].lines())


@pytest.mark.parametrize("name", sorted({*WINDOWED} - {"ConvTranspose2d", "TiedConvTranspose2d"}))
def test_rows_and_columns_have_a_padding_each(name):
    """'same' with stride 2 puts a zero above 5 rows and none before 4 columns."""
    e = explain.explanation(name, (1, 5, 4, 1), kernel=3, stride=2, padding="same")
    assert (e.example.letters["p"], e.example.letters["q"]) == (1, 0)
    assert e.ok, "\n".join(e.section("check")[0].lines())


@pytest.mark.parametrize("padding", ["valid", 1, "same"])
def test_a_transposed_convolution_is_the_transpose_of_the_matrix_that_is_drawn(padding):
    """The caption's y = Aᵀ x and dx = A dy, with y larger than x, smaller and as large."""
    e = explain.explanation("ConvTranspose2d", (1, 3, 3, 1), padding=padding)
    a, (section,) = e.example.arrays, e.section("picture")
    taps, matrix = section.blocks[0].draw.args
    A = np.append(0, a["W"].ravel())[matrix.astype(int)]
    assert taps.shape == a["W"].shape[:2] and "y = Aᵀ x, its bias aside, and dx = A dy" in section.blocks[0].caption
    assert np.allclose(A.T @ a["x"].ravel(), a["y"].ravel() - a["b"])
    assert np.allclose(A @ a["dy"].ravel(), a["dx"].ravel())


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_pixel_is_mixed_from_two_rows_and_two_columns_at_most(size):
    a = explain.explanation("Upsample2d-bilinear", (1, size, 2, 1)).example.arrays
    shares = a["A"][:, None, :, None] * a["B"][None, :, None, :]  # of y's pixel (i, j), x's pixel (h, w)
    assert np.count_nonzero(a["A"], axis=1).max() <= 2 and np.allclose(shares.sum((2, 3)), 1)


def test_a_page_draws_the_window_that_was_asked_for():
    usual, other = (explain.explanation("ConvTranspose2d", (1, 2, 2, 1), kernel=kernel).to_html() for kernel in (2, 3))
    pictures = [re.findall(r'src="?data:image/png[^" >]*', text) for text in (usual, other)]
    assert len(pictures[0]) == len(pictures[1]) == 1 and pictures[0] != pictures[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWED)
def test_every_window_is_explained_or_refused_in_a_sentence(name):
    refused = 0
    settings = list(itertools.product((3, 4), (1, 2, 3, 4), (1, 2, 3), ("same", "valid", 1, 2)))
    for rows, kernel, stride, padding in settings:
        try:
            e = explain.explanation(name, (1, rows, 4, 1), kernel=kernel, stride=stride, padding=padding)
        except ValueError as error:
            assert re.search(r": use a |, or padding='same'", str(error)), error
            refused += 1
        else:
            assert e.ok, (rows, kernel, stride, padding)
    assert refused < len(settings) / 3


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_folded_kernel_is_explained_for_other_sizes(kernel):
    assert explain.explanation("UpsampleConv2d", (1, 2, 2, 1), kernel=kernel).ok
