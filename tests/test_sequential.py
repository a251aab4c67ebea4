"""Nets of layers: names, refusals, the way back, the summary, and how a net is copied and built."""
import json

import numpy as np
import pytest

from npae.kernels import reference
from npae.layers import (
    Conv2d,
    Dense,
    Flatten,
    GaussianNoise,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Reparameterize,
    Reshape,
    Sequential,
    TiedDense,
    UpsampleConv2d,
    build,
)


def nested():
    first = Conv2d(1, 3, (3, 2), stride=2, activation="relu", kernels=reference)
    encoder = Sequential([first, MaxPool2d(2), Flatten()])
    first = Dense(6, 4, kernels=reference)
    return Sequential([encoder, first, TiedDense(first), Sequential([Reshape((1, 2, 3)), UpsampleConv2d(3, 2, 3)])])


def test_names_are_paths_and_a_tied_matrix_keeps_that_of_its_partner():
    net = nested()
    assert [layer.name for layer in net.walk()] == [
        "Sequential", "0", "0.0", "0.1", "0.2", "1", "2", "3", "3.0", "3.1"]
    assert [p.name for p in net.params] == ["0.0.W", "0.0.b", "1.W", "1.b", "2.b", "3.1.W", "3.1.b"]
    net.set_name("encoder")
    assert [p.name for p in net.params][:3] == ["encoder.0.0.W", "encoder.0.0.b", "encoder.1.W"]
    assert str(net.layers[0].layers[0]) == "Conv2d 'encoder.0.0'" and str(net) == "Sequential 'encoder'"
    assert repr(Dense(2, 3)) == "Dense(in_features=2, out_features=3, activation='identity', dtype='float32')"


def test_an_empty_list_and_something_that_is_no_layer_are_refused():
    with pytest.raises(ValueError, match="at least 1 layer, got 0"):
        Sequential([])
    with pytest.raises(ValueError, match="place 1 holds 'relu', which is no Layer"):
        Sequential([Flatten(), "relu"])


def test_one_object_at_two_places_is_refused_however_deep_it_stands():
    bend = ReLU()
    with pytest.raises(ValueError, match="stands at places 0 and 2"):
        Sequential([bend, Dense(3, 3), bend])
    with pytest.raises(ValueError, match=r"one Layer object stands once in a net"):
        Sequential([bend, Sequential([Dense(3, 3), Sequential([bend])])])


def test_an_error_names_the_layer_by_its_path_and_both_numbers():
    net = nested()
    with pytest.raises(ValueError, match=r"Conv2d '0\.0' expects 1 input channels, got x of shape .*5, 4, 2"):
        net.forward(np.zeros((2, 5, 4, 2), np.float32))
    with pytest.raises(ValueError, match=r"Dense '1' expects 6 features, got x of shape"):
        net.forward(np.zeros((2, 12, 4, 1), np.float32))
    with pytest.raises(ValueError, match=r"Conv2d '0\.0': a kernel of \(3, 2\) does not fit into an input of \(2, 4\)"):
        Sequential([Sequential([Conv2d(1, 3, (3, 2), padding=0)])]).forward(np.zeros((1, 2, 4, 1), np.float32))


def test_a_child_that_fails_leaves_the_whole_net_without_a_backward():
    net = Sequential([Dense(4, 3, kernels=reference), Dense(3, 2, kernels=reference), Reshape((2,))])
    y = net.forward(np.ones((2, 4), np.float32))
    net.layers[2].shape = (5,)
    with pytest.raises(ValueError, match="Reshape '2' makes"):
        net.forward(np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match="there was none"):
        net.backward(y)


def test_without_dx_the_walk_back_ends_at_the_first_layer_that_learns():
    noise = GaussianNoise(0.1)
    net = Sequential([noise, Sequential([Flatten(), Dense(6, 2, kernels=reference)]), Dense(2, 3, kernels=reference)])
    y = net.forward(np.ones((2, 3, 2), np.float32))
    noise.saved = None  # it would complain if it were asked
    assert net.backward(y, need_dx=False) is None and all(p.grad.any() for p in net.params)
    deaf = Sequential([Flatten(), ReLU(reference)])
    assert deaf.backward(deaf.forward(np.ones((2, 3), np.float32)), need_dx=False) is None


def test_the_generator_reaches_every_layer_that_draws():
    net = Sequential([GaussianNoise(0.1), Sequential([Dense(3, 4), Sequential([Reparameterize()])])])
    rng = np.random.default_rng(0)
    net.give_rng(rng)
    assert [getattr(layer, "rng", None) is rng for layer in net.walk()] == [False, True, False, False, False, True]
    net.give_rng(None)
    with pytest.raises(ValueError, match=r"Reparameterize '1\.1\.0' has neither eps nor a generator"):
        net.forward(np.ones((2, 3), np.float32))


def test_the_summary_counts_what_can_be_counted_by_hand():
    """Conv2d: 3 2 1 3 weights and 3 biases, 18 weights at 3 2 places. Dense: 6 4 weights, counted once.

    UpsampleConv2d: 3 3 3 2 weights and 2 biases; folded they are 4 4 3 2 numbers that meet each of 1 2 pixels.
    """
    net = nested()
    net.layers[0].layers[1].padding = "same"  # (3, 2, 3) -> (2, 1, 3)
    lines = [line.split("  ") for line in net.summary((5, 4, 1)).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines if len(line) > 1]
    assert rows == [
        ["layer", "output shape", "parameters", "multiply-adds"],
        ["input", "(5, 4, 1)"],
        ["0 Sequential", "(6,)"],
        ["0 Conv2d + relu", "(3, 2, 3)", "21", "108"],
        ["1 MaxPool2d", "(2, 1, 3)", "0", "0"],
        ["2 Flatten", "(6,)", "0", "0"],
        ["1 Dense", "(4,)", "28", "24"],
        ["2 TiedDense", "(6,)", "6", "24"],
        ["3 Sequential", "(2, 4, 2)"],
        ["0 Reshape", "(1, 2, 3)", "0", "0"],
        ["1 UpsampleConv2d", "(2, 4, 2)", "56", "192"],
        ["total", "(2, 4, 2)", "111", "348"]]
    assert sum(p.value.size for p in net.params) == 111 and net.multiply_adds((5, 4, 1)) == 348


def test_the_summary_takes_the_shape_from_the_net_or_says_that_it_needs_one():
    net = Sequential([Dense(4, 3)], input_shape=(4,))
    assert net.summary() == net.summary((4,)) and net.config()["input_shape"] == [4]
    assert build(net.config()).input_shape == (4,)
    with pytest.raises(ValueError, match=r"needs the shape of one input, for example summary\(\(28, 28, 1\)\)"):
        Sequential([Dense(4, 3)]).summary()


def test_a_net_is_built_under_its_own_path_and_ties_are_found_by_it():
    net = nested()
    net.set_name("decoder")
    twin = build(net.config(), "decoder")
    assert twin.layers[2].partner is twin.layers[1] and twin.layers[2].W is twin.layers[1].W
    assert [p.name for p in twin.params] == [p.name for p in build(twin.config(), "decoder").params]


def test_a_config_that_cannot_be_built_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="layer 0 is of the unknown kind 'Conv3d'"):
        build({"layer": "Sequential", "layers": [{"layer": "Conv3d"}]})
    with pytest.raises(ValueError, match=r"layer 1 is tied to '4', which does not stand before it"):
        build({"layer": "Sequential", "layers": [Dense(2, 3).config(), {"layer": "TiedDense", "partner": "4"}]})
    with pytest.raises(ValueError, match=r"layer 0 cannot be built: .*colour"):
        build({"layer": "Flatten", "colour": 3})
    with pytest.raises(ValueError, match="at least 1 layer, got 0"):
        build({"layer": "Sequential", "layers": []})
    with pytest.raises(ValueError, match=r"layer 0 cannot be built: .*missing .*'layers'"):
        build({"layer": "Sequential"})


class Doubled(Layer):
    """A user's own layer: two methods are enough."""

    def _forward(self, x):
        self.saved = True
        return 2 * x

    def _backward(self, dy, need_dx):
        return 2 * dy if need_dx else None


def test_a_layer_of_ones_own_stands_in_a_net_and_is_built_again_when_it_is_named():
    net = Sequential([Doubled(), LeakyReLU(0.5, kernels=reference)])
    x = np.array([[1, -1]], np.float32)
    assert net.forward(x).tolist() == [[2, -1]] and net.backward(x).tolist() == [[2, -1]]
    assert isinstance(build(net.config(), custom=[Doubled]).layers[0], Doubled)
    with pytest.raises(ValueError, match=r"unknown kind 'Doubled': name your own classes, custom=\[...\]"):
        build(net.config())


def test_a_copy_does_not_take_along_what_backward_remembered_and_leaves_the_original_ready():
    net = Sequential([Dense(3, 2, kernels=reference), ReLU(reference)])
    y = net.forward(np.ones((2, 3), np.float32))
    twin = net.to()
    with pytest.raises(ValueError, match="there was none"):
        twin.layers[0].backward(y)
    net.backward(y)


def test_a_fused_activation_that_was_used_as_a_layer_can_be_copied():
    """Its kernels are a module, and modules cannot be copied."""
    bend = ReLU(reference)
    bend.forward(np.ones((2, 3), np.float32))
    assert Dense(3, 2, activation=bend).to(np.float64).dtype == np.float64


def test_the_first_layer_that_learns_is_not_asked_for_a_dx_that_nobody_wants():
    asked = {}

    class Spy(Dense):
        def _backward(self, dy, need_dx):
            asked[self.name] = need_dx
            return super()._backward(dy, need_dx)

    net = Sequential([Flatten(), Spy(3, 3, kernels=reference), Spy(3, 3, kernels=reference)])
    net.forward(np.ones((2, 3), np.float32))
    net.backward(np.ones((2, 3), np.float32), need_dx=False)
    assert asked == {"1": False, "2": True}
    net.backward(np.ones((2, 3), np.float32))
    assert asked == {"1": True, "2": True}


def test_a_branch_of_another_net_cannot_be_held():
    net = Sequential([ReLU(), ReLU()])
    net.forward(np.ones((1, 2), np.float32))
    with pytest.raises(ValueError):
        net.hold(net.branch_signature()[:1])


def test_settings_of_ones_own_layer_may_be_called_like_those_of_a_net():
    class Own(Layer):
        def __init__(self, layers, activation):
            super().__init__()
            self.layers_, self.activation_ = layers, activation

    config = {"layer": "Own", "layers": [1, 2], "activation": {"layer": "of my own"}}
    layer = build(config, custom=[Own])
    assert layer.layers_ == [1, 2] and layer.activation_ == {"layer": "of my own"}


TABLE = """\
layer            output shape  parameters  multiply-adds
--------------------------------------------------------
input            (5, 4, 1)
0 Conv2d + relu  (3, 2, 3)             30            162
1 Sequential     (4,)
  0 Flatten      (18,)                  0              0
  1 Sequential   (4,)
    0 Dense      (4,)                  76             72
--------------------------------------------------------
total            (4,)                 106            234"""


def test_the_summary_is_a_table_in_which_inner_nets_stand_further_in():
    net = Sequential([Conv2d(1, 3, 3, stride=2, activation="relu"),
                      Sequential([Flatten(), Sequential([Dense(18, 4)])])])
    assert net.summary((5, 4, 1)) == TABLE


def test_a_copy_takes_the_name_of_a_dtype_and_keeps_its_kernels():
    net = Sequential([Dense(3, 2, kernels=reference)], input_shape=(np.int64(3),))
    twin = net.to("float64")
    assert twin.dtype == np.float64 and twin.layers[0].kernels is reference
    assert net.to().dtype == np.float32 and json.loads(json.dumps(net.config())) == net.config()
