"""Every case of the catalogue walks through every property that a layer has to have.
What one kind of layer promises beyond that stands in test_layers.
"""
import copy

import numba
import numpy as np
import pytest

from npae import gradcheck, layers
from npae.kernels import Workspace, fast, reference, set_threads
from npae.lab import oracles
from npae.lab.catalogue import ALL, cases
from npae.layers import Layer, Reparameterize, Sequential

KERNELS = (reference, fast)
WORDS = {reference: "reference", fast: "fast"}
ENTRIES = 20  # of each parameter and of x of a layer with weights; of others all, since a pool's gradient is sparse
ROUNDING = 1e-13  # a sum of up to 100 float64 products of size 1, in another order

every_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
both_kernels = pytest.mark.parametrize("kernels", KERNELS, ids=WORDS.get)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Pictures of 30 pixels are not worth a second thread, least of all on a busy machine; test_kernels has both."""
    before = numba.get_num_threads()
    set_threads(1)
    yield
    set_threads(before)


def over(choose):
    return pytest.mark.parametrize("case", [c for c in ALL if choose(c)], ids=lambda case: case.name)


class Bench:
    """A layer of a case with an input and an upstream gradient; noise is the same in every forward."""

    def __init__(self, case, kernels=fast, dtype=np.float64, shape=None, seed=0):
        self.layer = case.make(np.random.default_rng(1), dtype, kernels)
        self.case, self.rng = case, np.random.default_rng(seed)
        self.x = self.rng.standard_normal(shape or case.input_shapes[0]).astype(dtype)
        self.dy = self.draw(self.forward(self.x).shape)

    def draw(self, shape):
        return self.rng.standard_normal(shape).astype(self.x.dtype)

    def batch(self, n):
        """Another x of n pictures, with its dy."""
        x = self.draw((n, *self.x.shape[1:]))
        return x, self.draw((len(self.dy) // len(self.x) * n, *self.dy.shape[1:]))

    def forward(self, x):
        if self.case.random:
            self.layer.give_rng(np.random.default_rng(7))
        return self.layer.forward(x)

    def results(self, dx):
        return {"dx": np.array(dx), **{p.name: p.grad.copy() for p in self.layer.params}}

    def run(self, x, dy):
        """y, dx and all gradients, as copies."""
        self.layer.zero_grad()
        y = self.forward(x).copy()
        return {"y": y, **self.results(self.layer.backward(dy))}


def same_bits(got, want):
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].dtype == value.dtype and got[name].shape == value.shape, name
        assert got[name].tobytes() == value.tobytes(), f"{name} differs by {np.abs(got[name] - value).max()}"


def close(got, want, bound=ROUNDING):
    for name, value in want.items():
        assert got[name].shape == value.shape
        gap, size = np.abs(got[name] - value).max(), max(1, np.abs(value).max())
        assert gap <= bound * size, f"{name} differs by {gap}"


# ---- nobody is missing


def test_the_catalogue_holds_every_public_layer_class():
    public = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    public = {name for name in public if issubclass(getattr(layers, name), Layer)} - {"Layer", "Activation"}
    assert public == {case.kind for case in ALL}
    assert public == {kind.__name__ for kind in layers.KINDS} | {"Sequential"}


def test_every_case_has_its_own_name_and_every_layer_is_met_on_several_batch_sizes():
    assert len({case.name for case in ALL}) == len(ALL)
    for kind in {case.kind for case in ALL}:
        assert len({shape[0] for case in cases(kind) for shape in case.input_shapes}) > 1 or kind == "LeakyReLU", kind


def test_an_unknown_layer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no layer 'Deconv2d': use one of Dense, TiedDense, Conv2d"):
        cases("Deconv2d")


@every_case
def test_equal_generators_make_equal_layers_in_every_dtype_and_none_has_a_constant_bias(case):
    a, b = (case.make(np.random.default_rng(3), dtype, reference) for dtype in (np.float32, np.float64))
    for p, q in zip(a.params, b.params, strict=True):
        assert (p.value.dtype, q.value.dtype) == (np.float32, np.float64)
        assert np.array_equal(p.value, q.value) and p.value.any()


# ---- values


@every_case
@both_kernels
def test_forward_gives_the_values_of_the_oracle(case, kernels):
    for shape in case.input_shapes:
        bench = Bench(case, kernels, shape=shape)
        bench.layer.give_rng(None)
        for layer in bench.layer.walk():
            if isinstance(layer, Reparameterize):
                layer.eps = bench.draw((layer.samples * shape[0], {"Sequential": 3}.get(case.kind, shape[1] // 2)))
        close({"y": bench.layer.forward(bench.x)}, {"y": oracles.forward(bench.layer, bench.x)})


@every_case
def test_output_shape_tells_the_shape_of_one_output(case):
    for shape in case.input_shapes:
        bench = Bench(case, reference, shape=shape)
        assert bench.layer.output_shape(shape[1:]) == bench.dy.shape[1:]


# ---- gradients


@every_case
@both_kernels
def test_the_gradient_check_is_green(case, kernels):
    for shape in case.input_shapes:
        bench = Bench(case, kernels, shape=shape)
        rng = np.random.default_rng(5) if case.random else None
        report = gradcheck.check(bench.layer, bench.x, rng=rng, entries=ENTRIES if bench.layer.params else None)
        assert report.ok, str(report)


@over(lambda case: case.affine)
@both_kernels
def test_backward_is_the_transpose_of_an_affine_forward(case, kernels):
    for shape in case.input_shapes:
        layer = case.make(np.random.default_rng(1), np.float64, kernels)
        report = gradcheck.adjoint(layer, shape, rng=np.random.default_rng(5) if case.random else None)
        assert report.ok, str(report)


@over(lambda case: not case.affine)
def test_a_layer_that_is_called_bent_is_bent(case):
    with pytest.raises(ValueError, match="not affine"):
        gradcheck.adjoint(case.make(np.random.default_rng(1), np.float64, reference), case.input_shapes[0],
                          rng=np.random.default_rng(5) if case.random else None)


@every_case
@both_kernels
def test_backward_is_linear_in_dy_and_zero_at_zero(case, kernels):
    bench = Bench(case, kernels)
    assert not any(value.any() for name, value in bench.run(bench.x, 0 * bench.dy).items() if name != "y")
    other = bench.draw(bench.dy.shape)
    a, b, both = (bench.run(bench.x, dy) for dy in (bench.dy, other, 2 * bench.dy - 3 * other))
    close(both, {name: 2 * a[name] - 3 * b[name] for name in a if name != "y"}, 10 * ROUNDING)


@over(lambda case: not case.random)
@both_kernels
def test_a_batch_is_the_sum_of_its_pictures_in_any_order(case, kernels):
    bench = Bench(case, kernels)
    x, dy = bench.batch(3)
    whole, alone = bench.run(x, dy), [bench.run(x[i:i + 1], dy[i:i + 1]) for i in range(3)]
    rows = {name: np.concatenate([one[name] for one in alone]) for name in ("y", "dx")}
    sums = {p.name: sum(one[p.name] for one in alone) for p in bench.layer.params}
    close(whole, rows | sums, 10 * ROUNDING)
    order = [2, 0, 1]
    shuffled = bench.run(x[order], dy[order])
    close(shuffled, {name: v[order] if name in rows else v for name, v in whole.items()}, 10 * ROUNDING)


# ---- state


@every_case
@both_kernels
def test_x_dy_and_the_parameters_stay_as_they_were(case, kernels):
    bench = Bench(case, kernels, np.float32)
    before = {"x": bench.x.copy(), "dy": bench.dy.copy(), **{p.name: p.value.copy() for p in bench.layer.params}}
    bench.run(bench.x, bench.dy)
    same_bits({"x": bench.x, "dy": bench.dy, **{p.name: p.value for p in bench.layer.params}}, before)


@every_case
@both_kernels
def test_gradients_add_up_in_place_and_backward_may_be_repeated(case, kernels):
    """From 0 to dW and from dW to 2 dW; a sum that starts elsewhere may round another way in its last digit."""
    bench = Bench(case, kernels)
    arrays = [p.grad for p in bench.layer.params]
    once = bench.run(bench.x, bench.dy)
    once.pop("y")
    twice = bench.results(bench.layer.backward(bench.dy))
    same_bits({"dx": twice["dx"]}, {"dx": once.pop("dx")})
    close(twice, {name: 2 * grad for name, grad in once.items()})
    assert all(p.grad is array for p, array in zip(bench.layer.params, arrays, strict=True))
    bench.layer.zero_grad()
    assert not any(array.any() for array in arrays)


@every_case
@both_kernels
def test_backward_belongs_to_the_latest_forward_whatever_its_batch_size(case, kernels):
    bench = Bench(case, kernels, np.float32)
    batches = [bench.batch(n) for n in (2, 3, 1, 3)]
    fresh = [Bench(case, kernels, np.float32).run(*batch) for batch in batches]
    for batch, want in zip(batches, fresh, strict=True):
        same_bits(bench.run(*batch), want)


@every_case
@both_kernels
def test_two_instances_share_nothing(case, kernels):
    a, b = Bench(case, kernels, np.float32), Bench(case, kernels, np.float32, seed=9)
    want = a.run(a.x, a.dy), b.run(b.x, b.dy)
    a.layer.zero_grad()
    b.layer.zero_grad()
    y = a.forward(a.x), b.forward(b.x)
    for bench, y_, expected in zip((a, b), y, want, strict=True):
        same_bits({"y": y_, **bench.results(bench.layer.backward(bench.dy))}, expected)


@every_case
@both_kernels
def test_who_writes_into_y_or_dx_changes_nothing(case, kernels):
    bench = Bench(case, kernels, np.float32)
    want = bench.run(bench.x, bench.dy)
    x, dy = bench.x.copy(), bench.dy.copy()
    bench.layer.zero_grad()
    y = bench.forward(bench.x)
    got = {"y": y.copy()}
    y[...] = 123
    dx = bench.layer.backward(bench.dy)
    same_bits(got | bench.results(dx), want)
    dx[...] = 123
    bench.layer.zero_grad()
    same_bits(got | bench.results(bench.layer.backward(bench.dy)), want)
    same_bits({"x": bench.x, "dy": bench.dy}, {"x": x, "dy": dy})


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = (
    np.asfortranarray,
    lambda a: np.flip(np.flip(a).copy()),  # negative strides
    lambda a: np.repeat(a, 2, -1)[..., ::2],
    lambda a: np.broadcast_to(a[:1], a.shape),  # stride 0
    read_only,
)


@every_case
@both_kernels
def test_memory_order_does_not_matter(case, kernels):
    bench = Bench(case, kernels, np.float32)
    for layout in LAYOUTS:
        x, dy = layout(bench.x), layout(bench.dy)
        before = x.copy(), dy.copy()
        same_bits(bench.run(x, dy), bench.run(np.array(x, order="C"), np.array(dy, order="C")))
        assert np.array_equal(x, before[0]) and np.array_equal(dy, before[1])


@every_case
def test_backward_without_a_forward_is_an_error(case):
    bench = Bench(case, reference)
    unused = case.make(np.random.default_rng(1), np.float64, reference)
    for layer in (unused, bench.layer.to()):
        with pytest.raises(ValueError, match="backward belongs to the latest forward, and there was none"):
            layer.backward(bench.dy)


@every_case
def test_a_forward_that_failed_leaves_no_stale_backward(case):
    bench = Bench(case, reference)
    for bad in (bench.x.astype(np.uint8), bench.x.astype(np.float16), bench.x.astype(np.complex64)):
        bench.forward(bench.x)
        with pytest.raises(ValueError, match=r"expects x of float32 or float64, got (uint8|float16|complex64)"):
            bench.forward(bad)
        with pytest.raises(ValueError, match="there was none"):
            bench.layer.backward(bench.dy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_case
@both_kernels
def test_what_comes_out_has_the_dtype_that_went_in(case, kernels, dtype):
    bench = Bench(case, kernels, dtype)
    assert {name: value.dtype for name, value in bench.run(bench.x, bench.dy).items() if value.dtype != dtype} == {}


@every_case
def test_a_dy_of_another_shape_or_dtype_is_refused(case):
    bench = Bench(case, reference, np.float32)
    for bad in (bench.dy.astype(np.float64), bench.dy[:, :-1] if bench.dy.shape[1] > 1 else bench.dy[..., None]):
        with pytest.raises(ValueError, match=r"gave y of shape .* got dy of shape"):
            bench.layer.backward(bad)


@over(lambda case: case.make(np.random.default_rng(0)).params)
def test_an_x_of_another_dtype_or_width_is_refused_with_both_named(case):
    bench = Bench(case, reference, np.float32)
    first = next(layer for layer in bench.layer.walk() if layer.params and not isinstance(layer, Sequential))
    with pytest.raises(ValueError, match=f"{type(first).__name__}.* is float32, got x of float64"):
        bench.forward(bench.x.astype(np.float64))
    channels = bench.x.shape[-1]
    with pytest.raises(ValueError, match=f"{type(first).__name__}.* expects {channels} .*{channels + 1}"):
        bench.forward(np.concatenate([bench.x, bench.x[..., :1]], -1))


@over(lambda case: case.make(np.random.default_rng(0)).input_ndim)
def test_an_x_with_another_number_of_axes_is_refused(case):
    bench = Bench(case, reference)
    with pytest.raises(ValueError, match=rf"expects x with {bench.x.ndim} axes, got {bench.x.ndim + 1}: x of shape"):
        bench.layer.forward(bench.x[None])


# ---- buffers


@every_case
@both_kernels
def test_kept_buffers_give_the_same_bits(case, kernels):
    """Growing and shrinking batches, and the same one twice; then fresh arrays again."""
    bench = Bench(case, kernels, np.float32)
    batches = [bench.batch(n) for n in (2, 3, 1, 2)]
    want = [bench.run(*batch) for batch in batches]
    bench.layer.keep_buffers(True)
    for batch, expected in [*zip(batches, want, strict=True), (batches[-1], want[-1])]:
        same_bits(bench.run(*batch), expected)
    bench.layer.keep_buffers(False)
    same_bits(bench.run(*batches[0]), want[0])


class Poison(Workspace):
    """Hands out what an array may hold in the worst case: not-a-numbers, and winners that are nowhere."""

    def empty(self, key, shape, dtype):
        array = np.empty(shape, dtype)
        array[...] = np.nan if np.issubdtype(dtype, np.floating) else -99
        return array


@every_case
@both_kernels
def test_what_a_buffer_held_before_never_shows(case, kernels):
    bench = Bench(case, kernels, np.float32)
    want = bench.run(bench.x, bench.dy)
    for layer in bench.layer.walk():
        layer.work = Poison()
    same_bits(bench.run(bench.x, bench.dy), want)


# ---- what else a layer can do


@every_case
@both_kernels
def test_without_dx_the_parameter_gradients_are_the_same(case, kernels):
    bench = Bench(case, kernels, np.float32)
    want = bench.run(bench.x, bench.dy)
    bench.layer.zero_grad()
    bench.forward(bench.x)
    assert bench.layer.backward(bench.dy, need_dx=False) is None
    same_bits({p.name: p.grad for p in bench.layer.params}, {n: v for n, v in want.items() if n not in ("y", "dx")})


@every_case
def test_a_layer_can_be_built_again_from_its_config(case):
    bench = Bench(case, reference, np.float32)
    want = bench.run(bench.x, bench.dy)
    config = bench.layer.config()
    bench.layer = layers.build(copy.deepcopy(config)).to(kernels=reference)
    assert bench.layer.config() == config
    for p, q in zip(bench.layer.params, case.make(np.random.default_rng(1)).params, strict=True):
        assert p.name == q.name and p.value.dtype == np.float32
        p.value[...] = q.value
    same_bits(bench.run(bench.x, bench.dy), want)


def places(layer, net):
    """Which of the net's parameters each of the layer's is."""
    return [[p is q for q in net.params] for p in layer.params]


@every_case
def test_a_copy_in_another_dtype_keeps_ties_and_leaves_the_original_alone(case):
    bench = Bench(case, reference, np.float32)
    want = bench.run(bench.x, bench.dy)
    twin = bench.layer.to(np.float64)
    assert [p.name for p in twin.params] == [p.name for p in bench.layer.params]
    for mine, theirs in zip(bench.layer.walk(), twin.walk(), strict=True):
        assert mine is not theirs and type(mine) is type(theirs)
        assert places(mine, bench.layer) == places(theirs, twin)
    for p, q in zip(bench.layer.params, twin.params, strict=True):
        assert q.value.dtype == q.grad.dtype == np.float64 and np.array_equal(p.value, q.value)
        q.value[...] = q.grad[...] = 5
    same_bits(bench.run(bench.x, bench.dy), want)


def leaves(branch):
    return [leaf for b in branch for leaf in leaves(b)] if isinstance(branch, tuple) else [branch]


@every_case
@both_kernels
def test_holding_the_branch_of_the_centre_leaves_value_and_gradient_as_they_are(case, kernels):
    bench = Bench(case, kernels)
    want = bench.run(bench.x, bench.dy)
    branch = copy.deepcopy(bench.layer.branch_signature())
    kinked = any(leaf is not None for leaf in leaves(branch))
    assert kinked == any(word in case.name for word in ("relu", "ReLU", "MaxPool", "nested"))
    bench.layer.hold(branch)
    close(bench.run(bench.x, bench.dy), want)
    if kinked:  # held means held: far from the centre the value is another than that of the free layer
        held = bench.forward(-bench.x).copy()
        bench.layer.hold(None)
        assert not np.array_equal(held, bench.forward(-bench.x))
    bench.layer.hold(None)
    same_bits(bench.run(bench.x, bench.dy), want)


@every_case
@both_kernels
def test_what_hangs_on_a_not_a_number_is_one_and_the_other_pictures_are_spared(case, kernels):
    bench = Bench(case, kernels, np.float32)
    x, dy = bench.batch(2)
    y, nan = bench.run(x, dy)["y"], np.full_like
    other = bench.run(x + bench.draw(x.shape), dy)["y"]
    assert np.isnan(bench.run(nan(x, np.nan), dy)["y"][y != other]).all()
    want, other, got = (bench.run(x, g) for g in (dy, dy + bench.draw(dy.shape), nan(dy, np.nan)))
    for name in want.keys() - {"y"}:
        assert np.isnan(got[name][want[name] != other[name]]).all(), name
    if not case.random:
        x[0] = np.nan
        assert np.isnan(bench.forward(x)[0]).any() and np.isfinite(bench.forward(x)[1]).all()
