"""check_layer on right layers: nothing that a layer may do is called wrong, and odd makers are dealt with."""

import numpy as np
import pytest
from test_gradcheck import Dense, Tanh
from test_gradcheck_mutants import REFERENCE, REFERENCES, SHAPES, found_by

from npae.gradcheck import check_layer


@pytest.mark.parametrize("layer", REFERENCES)
@pytest.mark.parametrize("seed", range(3))
def test_a_right_layer_passes_the_whole_protocol(layer, seed):
    rng = np.random.default_rng(seed)
    reference = REFERENCES[layer]
    report = check_layer(layer, SHAPES.get(layer, (4, 5)), reference=reference, seed=seed)
    assert report.ok, str(report)
    assert check_layer(layer, SHAPES.get(layer, (4, 5)), rng=rng, seed=seed).ok


def test_a_layer_made_only_once_is_refused():
    layer = Dense()
    with pytest.raises(ValueError, match="same object twice"):
        check_layer(lambda: layer, (4, 5))


def test_gradients_may_be_added_image_by_image():
    """The second backward then rounds in another order than the first: right, though not the same bits."""
    class ImageByImage(Dense):
        def backward(self, dy):
            for x, row in zip(self.x, dy, strict=True):
                self.W.grad += np.outer(x, row)
                self.b.grad += row
            return dy @ self.W.value.T

    report = check_layer(ImageByImage, (4, 5))
    assert report.ok, str(report)


def test_layers_made_with_other_values_each_time_are_given_the_same():
    seeds = iter(range(1000))
    assert check_layer(lambda: Dense(seed=next(seeds)), (4, 5)).ok


def test_a_bias_of_zeros_does_not_hide_that_it_is_forgotten():
    class ZeroBias(Dense):
        def __init__(self):
            super().__init__()
            self.b.value[...] = 0

        def forward(self, x):
            self.x = x
            return x @ self.W.value

    report = check_layer(ZeroBias, (4, 5), reference=REFERENCES[Dense])
    assert REFERENCE in found_by(report)


def test_inputs_may_be_drawn_from_a_domain():
    class Log:
        params = ()

        def forward(self, x):
            self.x = x
            return np.log(x)

        def backward(self, dy):
            return dy / self.x

    report = check_layer(Log, (4, 3), draw=lambda rng, shape: rng.uniform(0.1, 2, shape), reference=np.log)
    assert report.ok, str(report)


def test_backward_without_forward_is_only_noted_in_a_layer_of_ones_own():
    class Careless(Tanh):
        y = 0.0

    report = check_layer(Careless, (4, 5))
    assert report.ok
    assert [line.status for line in report.lines if line.claim.startswith("backward without")] == ["NOTE"]
