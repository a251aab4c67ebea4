"""Every way to a derivative: the formulas and their constants, kinks, complex steps and who refuses them, V-curves."""
import math
from functools import partial

import numpy as np
import pytest

from npae import losses, models
from npae.gradcheck import Verdict
from npae.gradcheck.curves import STEPS, v_curve, v_curve_of
from npae.gradcheck.estimate import EPS
from npae.gradcheck.methods import FORMULAS, METHODS, complex_step, estimate
from npae.gradcheck.paths import claim, complex_function, complex_scalar
from npae.gradcheck.verdicts import judge
from npae.kernels import fast, reference, reference_training
from npae.layers import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, ReLU, Reshape, Sequential, Tanh

SHAPE = (4, 5, 1)


def tanh_net(seed=0, make=models.Autoencoder, hidden="tanh", outputs=10, **settings):
    """20 pixels, 10 units (or [mu | logvar] of 5), 20 logits; weights 1.5 times as large as fresh ones."""
    rng = np.random.default_rng(seed)
    codes = outputs if make not in (models.VAE, models.IWAE, models.ConditionalVAE) else outputs // 2
    labels = settings.get("classes", 0)
    first = [Reshape((20 + labels,))] if labels else [Flatten()]
    encoder = Sequential([*first, Dense(20 + labels, outputs, activation=hidden, rng=rng)])
    decoder = Sequential([Dense(codes + labels, 20, rng=rng), Reshape(SHAPE)])
    settings.setdefault("likelihood", losses.Bernoulli())
    model = make(encoder, decoder, **settings)
    for p in model.weights:
        p.value *= 1.5
    return model.to(kernels=reference), rng.random((8, *SHAPE))


def smooth(t):
    return math.exp(0.7 * t) + math.sin(3 * t), 0.7 * math.exp(0.7 * t) + 3 * math.cos(3 * t)


# ---- differences

@pytest.mark.parametrize("method", METHODS)
def test_every_difference_finds_the_derivative_within_a_tolerance_that_its_order_explains(method):
    allowed = {"forward": 3e-6, "central": 5e-8, "five-point": 1e-8, "richardson": 1e-9}[method]
    for t in np.linspace(-2, 2, 41):
        phi, slope = smooth(t)
        found = estimate(method, lambda s: (smooth(s)[0], True), t, phi, abs(phi) + 1, 1.0)
        assert found.smooth and abs(found.value - slope) <= found.tol < allowed * (abs(phi) + 1), (method, t)


@pytest.mark.parametrize("method", METHODS)
def test_the_constant_of_the_truncation_is_that_of_the_first_power_that_a_formula_leaves_out(method):
    formula = FORMULAS[method]
    for power in range(1, formula.p + 1):  # all lower powers are exact
        found = estimate(method, lambda s, k=power: (s**k, True), 0.0, 0.0, 1.0, 1.0)
        assert found.value == pytest.approx(float(power == 1), abs=1e-14)
    found = estimate(method, lambda s: (s ** (formula.p + 1), True), 0.0, 0.0, 1.0, 1.0)
    left_out = formula.a * math.factorial(formula.p + 1) * found.h**formula.p
    assert abs(found.value) == pytest.approx(left_out, rel=1e-6)
    if method != "richardson":
        assert found.truncation == pytest.approx(16 * left_out, rel=1e-6), "seen from a second step, 16 times over"


@pytest.mark.parametrize("method", METHODS)
def test_the_constants_of_the_rounding_are_the_sums_of_the_weights(method):
    """A formula is linear in its samples: a phi that is 1 at one sample and 0 at all others shows that one's weight."""
    asked = set()

    def weigh(where):
        def sample(s):
            asked.add(s)
            return float(s == where), True

        return estimate(method, sample, 0.0, float(where == 0.0), 1e20, 1e20)  # so coarse that nothing is a kink

    h = weigh(None).h
    weights = np.array([weigh(s).value * h for s in sorted(asked | {0.0})])
    assert np.abs(weights).sum() == pytest.approx(FORMULAS[method].bound)
    assert np.sqrt(np.square(weights).sum()) == pytest.approx(FORMULAS[method].rms)


def test_the_best_step_is_where_truncation_and_rounding_together_are_least():
    for formula in FORMULAS.values():
        best = formula.step(1e-15, 0.3)
        assert all(formula.error(best, 1e-15, 0.3) < formula.error(f * best, 1e-15, 0.3) for f in (0.9, 1.1))


@pytest.mark.parametrize("method", METHODS)
def test_steps_grow_where_phi_is_large_beside_its_slope_and_with_t(method):
    def step(t, scale):
        return estimate(method, lambda s: (s, True), t, t, scale, 1.0).h

    assert step(100.0, 1.0) == pytest.approx(100 * step(0.5, 1.0))
    if method != "richardson":
        assert step(0.0, 1e3) == pytest.approx(step(0.0, 1.0) * 1e3 ** (1 / (FORMULAS[method].p + 1)))
        assert step(0.0, 1e30) == 0.064, "but not beyond Richardson's widest"


def test_a_kink_is_seen_from_both_sides_and_a_forward_difference_sees_its_own_alone():
    for method in ("central", "five-point"):
        assert not estimate(method, lambda s: (abs(s), True), 0.0, 0.0, 1.0, 1.0).smooth
        h = estimate(method, lambda s: (s, True), 0.0, 0.0, 1.0, 1.0).h
        for place in np.linspace(0.01, 4.2, 400) * h:
            found = estimate(method, lambda s, k=place: (s + max(0.0, s - k), True), 0.0, 0.0, 1.0, 1.0)
            assert not found.smooth or abs(found.value - 1) <= found.tol, (method, place / h)
    found = estimate("forward", lambda s: (abs(s), True), 0.0, 0.0, 1.0, 1.0)
    assert found.smooth and found.value == 1, "nothing else can be said from the right"
    assert not estimate("forward", lambda s: (abs(s), s <= 0), 0.0, 0.0, 1.0, 1.0).smooth


@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_leaves_the_branch_or_the_domain_is_halved(method):
    full = estimate(method, lambda s: (s, True), 0.0, 0.0, 1.0, 1.0).h
    found = estimate(method, lambda s: (s if s < full / 8 else 9.0, s < full / 8), 0.0, 0.0, 1.0, 1.0)
    assert found.smooth and found.value == pytest.approx(1, abs=found.tol) and found.h < full / 4

    def logarithm(s):
        return (math.log1p(-8 * s / full) if s < full / 8 else math.nan), True

    found = estimate(method, logarithm, 0.0, 0.0, 1.0, 1.0)
    assert found.finite and found.value == pytest.approx(-8 / full, rel=0.3)
    assert not estimate(method, lambda s: (math.nan, True), 0.0, 0.0, 1.0, 1.0).finite


def test_an_unknown_difference_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match=r"'backward': use one of richardson, five-point, central, forward \(or"):
        estimate("backward", lambda s: (s, True), 0.0, 0.0, 1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1, 1 + 1e-3])
def test_right_gradients_are_verified_and_wrong_ones_are_not_by_every_difference(method, factor):
    model, x = tanh_net()
    here = claim(model, x, None, None, 0)
    for name, array in here.path.arrays.items():
        size, centre = float(np.sqrt(np.mean(here.claimed[name] ** 2))), here.path.evaluate()
        found = []
        for index in [(k,) if array.ndim == 1 else (k, k) for k in range(6)]:
            sampled = estimate(method, lambda s, name=name, index=index: (here.path.at(name, index, s), True),
                               float(array[index]), centre, here.scale, size)
            found.append((index, factor * float(here.claimed[name][index]), sampled))
        row = judge(name, array.shape, found)
        assert not row.count(Verdict.FAIL if factor == 1 else Verdict.PASS, Verdict.KINK), (name, row)
        if factor > 1 or method != "forward":  # a forward difference cannot resolve five digits of a loss of 14 nats
            assert row.count(Verdict.PASS if factor == 1 else Verdict.FAIL) >= 5, (name, row)


# ---- the complex step

def worst(model, x, y=None, rng=None, branch=None):
    """The largest |complex step - backward| of some entries of each parameter, in units of that gradient's rms."""
    here = claim(model, x, y, rng, 0)
    path = complex_scalar(model, x, y=y, rng=rng, upstream=here.upstream, scale=here.scale,
                          branch=here.branch if branch else None)
    gaps = []
    for name, G in here.claimed.items():
        for flat in np.random.default_rng(0).permutation(G.size)[:5]:
            index = tuple(int(i) for i in np.unravel_index(flat, G.shape))
            found = path.complex_step(name, index, here.scale)
            assert abs(found.value - G[index]) <= found.tol and found.truncation == 0
            gaps.append(abs(found.value - G[index]) / np.sqrt(np.mean(G**2)))
    return max(gaps)


def test_the_complex_step_is_exact_to_rounding_whatever_the_size_of_t():
    for t in (0.0, 0.3, -2.0, 40.0):
        found = complex_step(lambda s: np.sin(s) + s**3, t, 1 + abs(t) ** 3)
        assert abs(found.value - (math.cos(t) + 3 * t * t)) <= 1e-15 * (1 + 3 * t * t) and found.tol < 1e-9
    assert not complex_step(lambda s: complex("nan"), 0.0, 1.0).finite


@pytest.mark.parametrize("make, settings", [
    (models.Autoencoder, {}), (models.Autoencoder, {"likelihood": losses.Gaussian(0.3)}),
    (models.Autoencoder, {"likelihood": losses.SquaredError(0.5)}), (models.WeightDecayAutoencoder, {"lam": 0.1}),
    (models.DenoisingAutoencoder, {"corruption": "gaussian", "amount": 0.2}),
    (models.SparseAutoencoder, {"hidden": "sigmoid"}), (models.ContractiveAutoencoder, {"lam": 0.7}),
    (models.VAE, {}), (models.VAE, {"kl": "sampled", "beta": 0.5}), (models.ConditionalVAE, {"classes": 3}),
    (models.IWAE, {"samples": 3}),
], ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_complex_step_goes_through_every_smooth_model_to_fourteen_digits(make, settings):
    model, x = tanh_net(make=make, **settings)
    y = np.arange(8) % 3 if "classes" in settings else None
    assert worst(model, x, y, np.random.default_rng(1)) < 1e-14


def test_the_complex_step_goes_through_a_deep_contractive_net():
    rng = np.random.default_rng(0)
    encoder = Sequential([Conv2d(1, 2, 3, stride=2, activation="tanh", rng=rng), Flatten(),
                          Dense(12, 4, activation="sigmoid", rng=rng)])
    decoder = Sequential([Dense(4, 20, rng=rng), Reshape(SHAPE)])
    model = models.ContractiveAutoencoder(encoder, decoder, lam=0.7)
    assert worst(model, rng.random((3, *SHAPE)), rng=np.random.default_rng(1)) < 1e-14


def test_a_kinked_layer_is_refused_by_name_and_taken_on_a_branch_that_is_held():
    rng = np.random.default_rng(0)
    net = Sequential([Conv2d(1, 3, 3, rng=rng), Tanh(), MaxPool2d(2)])
    x = rng.normal(size=(2, 4, 6, 1))
    for layer, name in ((net, "MaxPool2d '2'"), (ReLU(), "ReLU")):
        with pytest.raises(ValueError, match=f"analytic path, and {name} has branches: hold them, or use differences"):
            complex_scalar(layer, x, upstream=np.ones(1))
    model, pictures = tanh_net(hidden="relu", outputs=10)
    with pytest.raises(ValueError, match=r"and Dense 'encoder\.1' has branches"):
        complex_scalar(model, pictures)
    assert worst(net, x, branch=True) < 1e-14
    assert worst(model, pictures, branch=True) < 1e-14
    assert worst(Sequential([AvgPool2d(2), Tanh()]), x) < 1e-14


def test_a_path_that_is_not_analytic_is_refused_in_one_sentence():
    theta = np.random.default_rng(0).normal(size=5)

    def refused(f, *words):
        with pytest.raises(ValueError) as caught:
            complex_function(lambda t: (f(t), t), theta, name="t")
        message = str(caught.value)
        assert message.startswith("the complex step needs an analytic path") and message.endswith("use differences")
        assert "\n" not in message and all(word in message for word in words), message

    refused(lambda t: np.abs(t).sum(), "into float64")
    refused(lambda t: (np.abs(t) ** 2 + t).sum(), "by differences but", "by a complex step")
    refused(lambda t: (t * np.conj(t) + t).sum(), "by differences but")
    refused(lambda t: (t.astype(float) ** 2).sum(), "raised ComplexWarning")
    refused(lambda t: math.exp(t[0]), "raised")
    refused(lambda t: float(complex(t[0])), "raised TypeError")
    refused(lambda t: 3.0, "into float64")
    path = complex_function(lambda t: (np.sum(np.exp(t)), t), theta)
    assert path.complex_step("theta", (2,), 1.0).value == pytest.approx(np.exp(theta[2]), rel=1e-15)
    assert np.array_equal(path.arrays["theta"], theta), "it stands where it stood"


def test_likelihoods_take_complex_numbers_on_the_reference_kernels_alone():
    output, x = np.full((2, 3), 0.5 + 1e-20j), np.full((2, 3), 0.25)
    for make in (losses.Bernoulli, partial(losses.Gaussian, 0.3), losses.SquaredError):
        value, doutput = make(kernels=reference).nll(output, x)
        assert isinstance(value, complex) and value.imag == pytest.approx(1e-20 * doutput.real.sum(), rel=1e-14)
        with pytest.raises(ValueError, match="in complex128 on the reference kernels"):
            make(kernels=fast).nll(output, x)
        with pytest.raises(ValueError, match="got x of complex128"):
            make(kernels=reference).nll(output.real.copy(), x.astype(complex))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_complex_safe_form_of_the_bernoulli_nll_has_the_bits_of_the_formula(dtype):
    tiny = float(np.finfo(dtype).tiny)
    logits = np.array([0.0, -0.0, tiny, -tiny, 1, -1, 30, -30, 90, -90, 1e4, -1e4, np.inf, -np.inf, np.nan], dtype)
    logits = np.concatenate([logits, np.random.default_rng(0).normal(scale=5, size=1000).astype(dtype)])[:, None]
    with np.errstate(all="ignore"):
        for pixel in (0.0, 0.25, 1.0):
            x, nll, dlogits = np.full_like(logits, pixel), np.empty(len(logits)), np.empty_like(logits)
            reference_training.bernoulli_nll(logits, x, nll, dlogits)
            z = np.exp(-np.abs(logits))
            terms = np.maximum(logits, 0) - x * logits + np.log1p(z)
            slope = (np.where(logits >= 0, np.ones_like(z), z) / (1 + z) - x) / len(logits)
            assert np.array_equal(nll, terms[:, 0].astype(np.float64), equal_nan=True)
            assert np.array_equal(dlogits, slope, equal_nan=True)


# ---- the V-curve

@pytest.fixture(scope="module")
def measured():
    return [v_curve_of(*tanh_net(seed), seed=seed) for seed in range(3)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", FORMULAS)
def test_the_best_step_is_within_a_factor_of_three_of_the_predicted_one(measured, method, dtype):
    for curves in measured:
        curve = curves.curve(method, dtype)
        assert 1 / 3 < curve.best / curve.predicted < 3, curves
        assert 1 / 5 < curve.least / curve.predicted_error < 5, curves


def test_a_v_has_the_slopes_of_its_formula_and_better_formulas_have_lower_ones(measured):
    curves = measured[0]
    for method, formula in FORMULAS.items():
        curve = curves.curve(method)
        right = (curve.steps > 4 * curve.best) & (curve.steps < 0.3)
        if method != "richardson":  # whose arm begins where its series ends
            assert np.polyfit(np.log(curve.steps[right]), np.log(curve.errors[right]), 1)[0] == pytest.approx(
                formula.p, rel=0.05)
        left = (curve.steps < curve.best / 10) & (curve.steps > 1e-13)
        assert np.polyfit(np.log(curve.steps[left]), np.log(curve.errors[left]), 1)[0] == pytest.approx(-1, abs=0.15)
    errors = [curves.curve(method).least for method in FORMULAS]
    assert errors == sorted(errors, reverse=True) and curves.truth == "the complex step"
    complex_ = curves.curve("complex")
    assert complex_.predicted is None and np.all(complex_.errors[complex_.steps < 1e-8] < 1e-14)
    assert "Richardson".lower() in str(curves) and len(str(curves).splitlines()) == 2 + 9
    with pytest.raises(KeyError, match="no curve 'complex' in float32"):
        curves.curve("complex", "float32")


def test_a_v_curve_of_a_function_and_of_a_layer_that_is_not_analytic():
    A = np.random.default_rng(0).normal(size=(6, 6))

    def f(theta):
        y = np.tanh(A.astype(theta.dtype) @ theta)
        return y @ y, 2 * A.T.astype(theta.dtype) @ (y * (1 - y * y))

    theta = np.random.default_rng(1).normal(size=6) / 2
    curves = v_curve(f, theta)
    assert {c.dtype for c in curves.curves} == {"float64", "float32"} and curves.truth == "the complex step"
    assert curves.curve("central").least < 1e-9 and curves.curve("central", "float32").least < 1e-3
    in_double = v_curve(lambda t: f(np.asarray(t, complex if t.dtype.kind == "c" else float)), theta)
    assert {c.dtype for c in in_double.curves} == {"float64"}, "a float32 curve is of a function that computes in it"
    layer = Dense(4, 3, activation="relu", rng=np.random.default_rng(0))
    curves = v_curve_of(layer, np.random.default_rng(1).normal(size=(5, 4)))
    assert curves.truth == "backward" and curves.curve("central").least < 1e-9 < EPS * 1e8
    with pytest.raises(KeyError):
        curves.curve("complex")
    with pytest.raises(ValueError, match="rms is 0 here"):
        v_curve(lambda t: (np.sum(t * 0), t * 0), theta)


def test_a_wrong_gradient_does_not_bend_the_v_where_the_complex_step_knows_better():
    def f(theta):
        return np.sum(np.exp(theta)), 1.01 * np.exp(theta)

    assert v_curve(f, np.linspace(-1, 1, 8)).curve("richardson").least < 1e-10
    assert len(STEPS) == 101 and STEPS[0] == 1 and STEPS[-1] < 1e-15
