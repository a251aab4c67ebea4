"""What the checker must reach, each goal with its small version for every day; `pytest -m slow -s` prints the figures.
No false alarm on right code, no miss of a small mistake: one is worth nothing without the other."""

import zlib
from collections import Counter

import numpy as np
import pytest

from npae import losses, models, penalties
from npae.gradcheck import check, check_function, check_layer
from npae.kernels import reference
from npae.lab import catalogue
from npae.layers import Dense, Flatten, Reparameterize, Reshape, Sequential, Sigmoid, Tanh

CASES = {case.name: case for case in catalogue.cases()}
ONE_A_KIND = list({case.kind: case for case in reversed(catalogue.cases())}.values())
PIXELS = (3, 4, 1)


def seeded(case, seed):
    """The whole protocol on one case, with other weights, inputs, upstream gradients and noise for every seed."""
    def make():
        return case.make(np.random.default_rng(seed), np.float64, reference)

    rng = np.random.default_rng(seed + 1) if case.random else None
    return check_layer(make, case.input_shapes[seed % len(case.input_shapes)], rng=rng, entries=20, seed=seed)


def functions(seed):
    """Every loss and penalty at a random point."""
    rng = np.random.default_rng(seed)
    x, h, eps = rng.random((3, 4, 5)), rng.uniform(0.05, 0.6, (3, 4)), rng.standard_normal((6, 4))
    codes = {"mu": rng.standard_normal((3, 4)), "logvar": rng.standard_normal((3, 4))}
    weights = {"W": rng.standard_normal((4, 4)), "V": rng.standard_normal((2, 3))}

    def named(f, *names):
        def call(arrays):
            value, *gradients = f(*(arrays[name] for name in names))
            return value, dict(zip(names, gradients, strict=True))

        return call

    for likelihood in (losses.Bernoulli(kernels=reference), losses.Gaussian(0.5, kernels=reference),
                       losses.SquaredError(0.7, kernels=reference)):
        yield str(likelihood), named(lambda output, like=likelihood: like.nll(output, x), "output"), \
            {"output": 3 * rng.standard_normal(x.shape)}
    yield "gaussian_kl", named(penalties.gaussian_kl, "mu", "logvar"), codes
    yield "gaussian_kl_sampled", named(lambda m, v: penalties.gaussian_kl_sampled(m, v, eps), "mu", "logvar"), codes
    yield "sparsity_kl", named(lambda h: penalties.sparsity_kl(h, 0.2), "h"), {"h": h}
    yield "contractive", named(lambda h, W: penalties.contractive(h, W, Tanh()), "h", "W"), {"h": h, "W": weights["W"]}
    yield "weight_decay", lambda a: (lambda value, grads: (value, {"W": grads[0], "V": grads[1]}))(
        *penalties.weight_decay([a["W"], a["V"]], reference)), weights


def small_models(seed):
    """Every kind of model as a small net, with the noise it asks for."""
    rng = np.random.default_rng(seed)
    on = {"rng": rng, "kernels": reference, "dtype": np.float64}

    def nets(code, out=12, more=(0, 0)):
        return (Sequential([Flatten(), Dense(12 + more[0], 7, activation="tanh", **on),
                            Dense(7, code, activation="sigmoid", **on)]),
                Sequential([Dense(out + more[1], 7, activation="leaky_relu", **on), Dense(7, 12, **on),
                            Reshape(PIXELS)]))

    square, y = losses.SquaredError(kernels=reference), rng.integers(0, 10, 3)
    yield models.Autoencoder(*nets(4, 4), likelihood=square), None
    yield models.WeightDecayAutoencoder(*nets(4, 4), likelihood=square, lam=0.3), None
    yield models.DenoisingAutoencoder(*nets(4, 4), likelihood=square, corruption="masking", amount=0.3), None
    yield models.SparseAutoencoder(*nets(4, 4), likelihood=square, rho=0.2, beta=0.5, lam=0.1), None
    yield models.ContractiveAutoencoder(*nets(4, 4), likelihood=square, lam=0.4), None
    encoder, decoder = nets(4, 2)
    yield models.VAE(encoder, decoder, likelihood=losses.Bernoulli(kernels=reference), beta=0.7), None
    yield models.VAE(*nets(4, 2), likelihood=square, kl="sampled"), None
    yield models.IWAE(*nets(4, 2), likelihood=losses.Bernoulli(kernels=reference), samples=3), None
    encoder, decoder = nets(4, 2, more=(10, 10))
    yield models.ConditionalVAE(encoder, decoder, likelihood=losses.Bernoulli(kernels=reference), classes=10), y


def alarms(layers, seeds, model_seeds):
    """(what was called wrong, reports made, verdict counts of the layers' entries)"""
    wrong, made, verdicts = [], 0, Counter()
    for seed in range(seeds):
        for case in layers:
            report = seeded(case, seed)
            wrong += [(case.name, seed, report.wrong)] if not report.ok else []
            verdicts.update(entry.verdict for row in report.rows for entry in row.entries)
            made += 1
        for name, f, arrays in functions(seed):
            report = check_function(f, arrays)
            wrong += [(name, seed, report.wrong)] if not report.ok else []
            made += 1
    for seed in range(model_seeds):
        for model, y in small_models(seed):
            x = np.random.default_rng(seed).random((3, *PIXELS))
            report = check(model, x, y=y, rng=np.random.default_rng(seed), entries=20, seed=seed)
            wrong += [(str(model), seed, report.wrong)] if not report.ok else []
            made += 1
    return wrong, made, verdicts


def test_right_code_is_never_called_wrong():
    wrong, made, _ = alarms(ONE_A_KIND, 1, 1)
    assert not wrong, wrong[:3]
    assert made == len(ONE_A_KIND) + 8 + 9


@pytest.mark.slow
def test_right_code_is_never_called_wrong_on_any_of_100_seeds():
    wrong, made, verdicts = alarms(CASES.values(), 100, 20)
    open_ = verdicts["KINK"] + verdicts["UNRESOLVED"]
    print(f"\n{made} reports on right code, {len(wrong)} false alarms; of {sum(verdicts.values())} entries of layers "
          f"{open_} KINK or UNRESOLVED ({open_ / sum(verdicts.values()):.2%})")
    assert not wrong, wrong[:3]
    assert open_ <= 0.01 * sum(verdicts.values())


class Off(Sequential):
    """A net of which one gradient entry is multiplied by `by`; the place is that of W of the second layer."""

    place, by = (0, 0), 1.0

    def _backward(self, dy, need_dx):
        dx = super()._backward(dy, need_dx)
        self.layers[1].W.grad[self.place] *= self.by
        return dx


def net(sizes, seed=0):
    on = {"rng": np.random.default_rng(seed), "dtype": np.float64, "kernels": reference}
    return [Flatten(), Dense(*sizes, activation="tanh", **on), Dense(sizes[1], 3, activation="sigmoid", **on)]


def caught(seeds, entries):
    """How many of the verified entries are called wrong when they are multiplied by 1 + 1e-6."""
    seen = tried = 0
    for seed in range(seeds):
        layer = Off(net((5, 4), seed))
        x = np.random.default_rng(seed).standard_normal((3, 5))
        verified = [e.index for e in check(layer, x, seed=seed).row("1.W").entries if e.verdict == "PASS"]
        for place in verified[:entries]:
            layer.place, layer.by = place, 1 + 1e-6
            tried += 1
            found = check(layer, x, seed=seed).row("1.W")
            seen += [e.index for e in found.entries if e.verdict == "FAIL"] == [place]
    return seen, tried


def test_an_error_of_a_millionth_in_one_entry_is_caught():
    assert caught(2, 10) == (20, 20)


@pytest.mark.slow
def test_an_error_of_a_millionth_in_one_entry_is_caught_99_times_of_100():
    seen, tried = caught(25, 20)
    print(f"\n1 + 1e-6 on one verified entry: caught {seen} of {tried}")
    assert tried == 500
    assert seen >= 0.99 * tried


def zeroed(count):
    """(found, named exactly) of so many single entries of 784 x 128 weights, spread over their magnitudes."""
    layer, x = Off(net((784, 128))), np.random.default_rng(0).random((4, 784))
    layer.forward(x)
    layer.backward(np.random.default_rng(0).standard_normal((4, 3)))
    size = np.abs(layer.layers[1].W.grad)
    places = np.argwhere(size >= 1e-3 * np.sqrt(np.mean(size**2)))
    places = places[np.argsort(size[tuple(places.T)])]
    found = named = 0
    for place in places[np.linspace(0, len(places) - 1, count).astype(int)]:
        layer.place, layer.by = tuple(int(i) for i in place), 0.0
        row = check(layer, x, fast=True).row("1.W")
        found += not row.ok
        named += [entry.index for entry in row.wrong_entries] == [layer.place]
    return found, named


def test_one_zeroed_weight_of_a_hundred_thousand_is_found_and_named_along_directions():
    assert zeroed(3) == (3, 3)


@pytest.mark.slow
def test_200_of_200_zeroed_weights_are_found_and_named_along_directions():
    found, named = zeroed(200)
    print(f"\none zeroed entry of 100,352: found {found} of 200, named {named}")
    assert (found, named) == (200, 200)


def test_a_right_layer_of_a_hundred_thousand_weights_is_green_along_directions():
    report = check(Off(net((784, 128))), np.random.default_rng(0).random((4, 784)), fast=True)
    assert report.ok
    assert "3 directions" in str(report)
    assert [row.directions for row in report.rows] == [3, 3, 3, 3, 0]  # 3 entries are looked at one by one


def test_the_fast_mode_and_another_method_do_not_go_together():
    with pytest.raises(ValueError, match="not central: leave one of the two out"):
        check(Sigmoid(), np.ones((2, 3)), fast=True, method="central")


def test_a_noisy_layer_is_checked_along_directions_with_its_noise_frozen():
    report = check(Reparameterize(2), np.random.default_rng(0).standard_normal((3, 8)),
                   rng=np.random.default_rng(1), fast=True)
    assert report.ok, report.wrong


def test_seeds_differ():
    """Names make the seeds of nothing here: the same case with two seeds has other weights."""
    case = CASES["Dense(5, 3)"]
    a, b = (zlib.crc32(case.make(np.random.default_rng(s), np.float64, reference).W.value.tobytes()) for s in (0, 1))
    assert a != b
