"""NaN in, NaN out, in both modules: one NaN in each argument of each kernel, in random calls.

Every result that the argument's place has a say in is NaN, and of the others none, but for one liberty: a zero of the
padding times a NaN may count, so that of a NaN in weights, or in what a weight gradient is summed of, a result of the
same channel may be NaN for it.
"""
import math

import numpy as np
import pytest
from hypothesis import strategies as st
from test_kernels_fuzz import ACTIVATIONS, STEPS, Case, fuzz, geometries, vectors

from npae.kernels import fast, reference

both_modules = pytest.mark.parametrize("K", [reference, fast], ids=["reference", "fast"])
FEW = st.one_of(st.integers(1, 3), st.sampled_from([8, 9, 17]))
CHANNELS = st.one_of(st.integers(1, 4), st.sampled_from([7, 8, 9, 15, 16, 17, 33]))


def place(draw, array):
    return tuple(draw(st.integers(0, length - 1)) for length in array.shape)


def mark(array, at):
    """Zeros with a one where the NaN will be."""
    ones = np.zeros(array.shape)
    ones[at] = 1
    return ones


def struck(arrays, name, at):
    """The arrays, one of them with a NaN in it."""
    arrays = {key: array.copy("K") for key, array in arrays.items()}
    arrays[name][at] = np.nan
    return arrays


def meets(results, must, may=None):
    """Exactly the marked results are NaN, or at least those that must be, and no others than may be."""
    for name, result in results.items():
        found, wanted = np.isnan(result), must.get(name, np.zeros(result.shape, bool))
        allowed = wanted | (may or {}).get(name, np.zeros(result.shape, bool))
        assert found[wanted].all(), f"{name}: {(wanted & ~found).sum()} of {wanted.sum()} NaN are lost"
        assert not found[~allowed].any(), f"{name}: {(found & ~allowed).sum()} NaN come from nowhere"


def channel(array, axis, c):
    """True where the array's index along an axis is c."""
    chosen = np.zeros(array.shape, bool)
    np.moveaxis(chosen, axis, 0)[c] = True
    return chosen


# ---- layers


def layer(K, name, arrays, g, bend):
    """y of the forward pass, and dW, db, dx of the backward."""
    x, W, b, y, dy, dW, db = (arrays[key] for key in ("x", "W", "b", "y", "dy", "dW", "db"))
    made = getattr(K, f"{name}_forward")(x, W, b, *g, bend)
    dW, db, dx = dW.copy("K"), db.copy(), np.zeros_like(x)
    getattr(K, f"{name}_backward")(x, W, y, dy, *g, bend, dW, db, dx)
    return {"y": made, "dW": dW, "db": db, "dx": dx}


def layer_arrays(c, x, W, dy):
    outs = dy.shape[-1]
    return {"x": x, "W": W, "b": c.normal(outs), "y": c.output(*dy.shape), "dy": dy, "dW": np.array(W), "db":
            c.normal(outs)}


def layer_passes_nan(K, data, name, arrays, g, contract, axes):
    """contract(x, W), (dy, W), (x, dy): which y, dx and dW the marked numbers are terms of; axes: in and out of W."""
    draw, bend = data.draw, data.draw(st.sampled_from(ACTIVATIONS))
    role = draw(st.sampled_from([key for key in arrays if key != "y" or bend.label != "identity"]))
    at, ones = place(draw, arrays[role]), {key: np.ones(array.shape) for key, array in arrays.items()}
    one = mark(arrays[role], at)
    results = layer(K, name, struck(arrays, role, at), g, bend)
    y_of, dx_of, dW_of = contract
    into, out = axes
    W = arrays["W"]
    if role == "x":
        must = {"y": y_of(one, ones["W"]) > 0, "dW": dW_of(one, ones["dy"]) > 0}
        may = {"dW": channel(W, into, at[-1])}
    elif role == "W":
        must = {"y": y_of(ones["x"], one) > 0, "dx": dx_of(ones["dy"], one) > 0}
        may = {"y": channel(arrays["y"], -1, at[out]), "dx": channel(arrays["x"], -1, at[into])}
    elif role in ("y", "dy"):
        must = {"dx": dx_of(one, ones["W"]) > 0, "dW": dW_of(ones["x"], one) > 0, "db": mark(arrays["db"], at[-1]) > 0}
        may = {"dW": channel(W, out, at[-1])}
    else:
        must = {"y": channel(arrays["y"], -1, at[-1])} if role == "b" else {role: one > 0}
        may = {}
    meets(results, must, may)


def conv_passes_nan(K, data):
    c, g, transposed = Case(data.draw), data.draw(geometries()), data.draw(st.booleans())
    n, inside, out = data.draw(FEW), data.draw(CHANNELS), data.draw(CHANNELS)
    a, W, d = (c.normal(*shape) for shape in ((n, *g.input_size, inside), (*g.kernel_size, inside, out),
                                              (n, *g.output_size, out)))

    def forward(x, W):
        return reference.conv2d(x, W, g)

    def back(d, W):
        return reference.conv2d_input_grad(d, W, g)

    def weights(x, d):
        return reference.conv2d_weight_grad(x, d, g)

    if transposed:
        layer_passes_nan(K, data, "conv2d_transpose", layer_arrays(c, d, W, a), (g,),
                         (back, forward, lambda x, dy: weights(dy, x)), (3, 2))
    else:
        layer_passes_nan(K, data, "conv2d", layer_arrays(c, a, W, d), (g,), (forward, back, weights), (2, 3))


def dense_passes_nan(K, data):
    c, n = Case(data.draw), data.draw(st.one_of(FEW, st.sampled_from([40, 129])))
    inside, out, tied = data.draw(CHANNELS), data.draw(CHANNELS), data.draw(st.booleans())
    W = c.normal(out, inside).T if tied else c.normal(inside, out)
    layer_passes_nan(K, data, "dense", layer_arrays(c, c.normal(n, inside), W, c.normal(n, out)), (),
                     (np.matmul, lambda dy, W: dy @ W.T, lambda x, dy: x.T @ dy), (0, 1))


def activations_pass_nan(K, data):
    c, n = Case(data.draw), data.draw(st.one_of(st.integers(1, 70), st.just(4097)))
    arrays, bend = {"x": c.normal(n), "y": c.output(n), "dy": c.normal(n)}, c.bend
    role = data.draw(st.sampled_from(["x", "y", "dy"] if bend.label != "identity" else ["x", "dy"]))
    at = place(data.draw, arrays[role])
    hurt = struck(arrays, role, at)
    results = {"x": K.activate(hurt["x"], bend), "dx": K.activate_input_grad(hurt["y"], hurt["dy"], bend)}
    meets(results, {"x" if role == "x" else "dx": mark(arrays[role], at) > 0})


# ---- pools and upsampling


def pools_pass_nan(K, data):
    c, g, n, channels = Case(data.draw), data.draw(geometries(pool=True)), data.draw(FEW), data.draw(CHANNELS)
    x, dy = c.normal(n, *g.input_size, channels), c.normal(n, *g.output_size, channels)
    at, up = place(data.draw, x), place(data.draw, dy)
    hurt, dhurt = struck({"x": x}, "x", at)["x"], struck({"dy": dy}, "dy", up)["dy"]
    (y, winner), seen = K.max_pool2d(hurt, g), reference.avg_pool2d(mark(x, at), g) > 0
    assert np.array_equal(winner, reference.max_pool2d(hurt, g)[1])
    winner = reference.max_pool2d(x, g)[1]
    meets({"max": y, "avg": K.avg_pool2d(hurt, g), "max back": K.max_pool2d_input_grad(dhurt, winner, g),
           "avg back": K.avg_pool2d_input_grad(dhurt, g)},
          {"max": seen, "avg": seen, "max back": reference.max_pool2d_input_grad(mark(dy, up), winner, g) > 0,
           "avg back": reference.avg_pool2d_input_grad(mark(dy, up), g) > 0})


def upsampling_passes_nan(K, data):
    """A share of zero in the mixing of two rows may count."""
    draw = data.draw
    c, n, channels, h, w = Case(draw), draw(FEW), draw(CHANNELS), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    factor = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    x, dy = c.normal(n, h, w, channels), c.normal(n, h * factor[0], w * factor[1], channels)
    for mode in ("nearest", "bilinear"):
        for name, array in ((f"upsample2d_{mode}", x), (f"upsample2d_{mode}_input_grad", dy)):
            at = place(draw, array)
            result = getattr(K, name)(struck({"x": array}, "x", at)["x"], factor)
            must = getattr(reference, name)(mark(array, at), factor) > 0
            may = channel(result, 0, at[0]) & channel(result, 3, at[3]) & (mode == "bilinear")
            meets({name: result}, {name: must}, {name: may})


# ---- losses and steps


def losses_pass_nan(K, data):
    c, n, d = Case(data.draw), data.draw(FEW), data.draw(st.one_of(st.integers(1, 40), st.just(785)))
    arrays = {"y": c.normal(n, d), "x": np.abs(c.normal(n, d)) % 1}
    role = data.draw(st.sampled_from(["y", "x"]))
    at = place(data.draw, arrays["y"])
    hurt = struck(arrays, role, at)
    for call in (lambda *made: K.bernoulli_nll(hurt["y"], hurt["x"], *made),
                 lambda *made: K.squared_error(hurt["y"], hurt["x"], 0.5, *made)):
        values, dy = np.zeros(n), np.zeros_like(hurt["y"])
        call(values, dy)
        meets({"values": values, "dy": dy}, {"values": mark(values, at[:1]) > 0, "dy": mark(dy, at) > 0})


def steps_pass_nan(K, data):
    """As the reference has it: what a moment of NaN reaches follows from the formula of the step."""
    c, n = Case(data.draw), data.draw(st.one_of(st.integers(1, 70), st.sampled_from([8192, 8193])))
    name = data.draw(st.sampled_from(sorted(STEPS)))
    arrays = vectors(c, n, name)
    role, at = data.draw(st.integers(0, len(arrays) - 1)), data.draw(st.integers(0, n - 1))
    arrays[role][at] = np.nan
    want = [array.copy() for array in arrays]
    getattr(K, name)(*arrays, *STEPS[name][1])
    getattr(reference, name)(*want, *STEPS[name][1])
    assert np.isnan(arrays[role][at]) and np.isnan(arrays[0][at])
    for got, other in zip(arrays, want, strict=True):
        assert np.flatnonzero(np.isnan(got)).tolist() == np.flatnonzero(np.isnan(other)).tolist()
    assert math.isnan(K.sum_of_squares(arrays[role]))


CHECKS = {conv_passes_nan: 150, dense_passes_nan: 60, activations_pass_nan: 50, pools_pass_nan: 30,
          upsampling_passes_nan: 30, losses_pass_nan: 40, steps_pass_nan: 40}
every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@both_modules
@every_check
def test_a_nan_is_seen_wherever_it_has_a_say_and_nowhere_else(K, check):
    fuzz(lambda data: check(K, data), CHECKS[check])


@pytest.mark.slow
@both_modules
@every_check
def test_a_nan_is_seen_in_very_many_random_calls(K, check):
    fuzz(lambda data: check(K, data), 20 * CHECKS[check])
