"""What codes know: classifiers against their definitions, the mutual information gap at its ends, Jacobians."""

import numpy as np
import pytest
from scipy.optimize import minimize

from npae import losses
from npae.evaluate import knn, linear_probe, mig, pca, pca_mse, singular_values
from npae.kernels import reference
from npae.layers import Conv2d, Dense, Flatten, Reshape, Sequential
from npae.models import VAE, Autoencoder


def clusters(n, classes=3, d=4, spread=0.1, seed=0):
    """Codes around one corner a class, and their labels 10, 11, ..."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return np.eye(d)[y] + spread * rng.standard_normal((n, d)), y + 10


def test_the_probe_reads_what_is_linear_and_only_that():
    (a, ya), (b, yb) = clusters(200, seed=0), clusters(100, seed=1)
    assert linear_probe(a, ya, b, yb) == 1.0
    rng = np.random.default_rng(2)
    h, t = rng.uniform(-1, 1, (400, 2)), rng.uniform(-1, 1, (400, 2))
    xor, xor_t = ((s[:, 0] * s[:, 1] > 0).astype(int) for s in (h, t))
    assert 0.3 < linear_probe(h, xor, t, xor_t) < 0.7 and knn(h, xor, t, xor_t) > 0.9


def test_the_probe_is_at_the_optimum_of_its_own_equation():
    """The same objective, written another way and minimised from another start, gives the same guesses."""
    (a, ya), (b, yb) = clusters(60, spread=0.8, seed=3), clusters(300, spread=0.8, seed=4)
    u, v = ((h - a.mean(0)) / a.std(0) for h in (a, b))

    def loss(flat):
        W, bias = flat[:12].reshape(4, 3), flat[12:]
        s = u @ W + bias
        return np.mean(np.log(np.exp(s).sum(1)) - s[np.arange(60), ya - 10]) + 0.05 * np.square(W).sum()

    best = minimize(loss, np.random.default_rng(5).standard_normal(15), method="BFGS", options={"gtol": 1e-5}).x
    guess = (v @ best[:12].reshape(4, 3) + best[12:]).argmax(1) + 10
    assert linear_probe(a, ya, b, yb, ridge=0.1) == np.mean(guess == yb) < 0.9


def test_the_probe_does_not_know_scale_or_place_of_the_codes_and_takes_constant_ones():
    (a, ya), (b, yb) = clusters(100, spread=0.8, seed=6), clusters(300, spread=0.8, seed=7)
    plain = linear_probe(a, ya, b, yb)
    scale, place = np.array([1e-3, 1, 50, 7]), np.array([3, -2, 1e3, 0])
    assert linear_probe(a * scale + place, ya, b * scale + place, yb) == plain
    constant = [np.column_stack([h, np.full(len(h), 0.1)]) for h in (a, b)]
    assert linear_probe(constant[0], ya, constant[1], yb) == plain
    nearly = np.full(100, 0.1)  # its mean is off by a rounding, and so is its spread: no reason to magnify it
    assert 0 < nearly.std() < 1e-15
    assert linear_probe(np.column_stack([a, nearly]), ya, np.column_stack([b, b[:, 0]]), yb) == plain
    assert linear_probe(a[:, 0] * 0, ya, b[:, 0] * 0, yb) == np.mean(yb == np.bincount(ya).argmax())


def test_a_label_that_training_has_not_seen_is_an_error_of_both():
    (a, ya), (b, yb) = clusters(100), clusters(50, seed=1)
    for judge in (linear_probe, knn):
        assert judge(a, ya, b, np.where(yb == 11, 99, yb)) == np.mean(yb != 11)
        assert isinstance(judge(a, ya, b, yb), float)


def by_hand(train_h, train_y, test_h, test_y, k):
    """Distances one by one; equal ones by the order of training, equal votes by the first among the nearest."""
    right = 0
    for h, y in zip(test_h, test_y, strict=True):
        far = [sum((p - q) ** 2 for p, q in zip(h.tolist(), t.tolist(), strict=True)) for t in train_h]
        near = [train_y[i] for i in sorted(range(len(far)), key=lambda i: (far[i], i))[:k]]
        votes = {label: near.count(label) for label in near}
        right += next(label for label in near if votes[label] == max(votes.values())) == y
    return right / len(test_y)


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_nearest_neighbours_are_exact_with_every_tie_as_documented(k, monkeypatch):
    """Codes on a small lattice: most distances are equal to some other."""
    rng = np.random.default_rng(8)
    a, b = rng.integers(-2, 3, (40, 2)).astype(float), rng.integers(-2, 3, (60, 2)).astype(float)
    ya, yb = rng.integers(0, 3, 40), rng.integers(0, 3, 60)
    expected = by_hand(a, ya, b, yb, k)
    assert knn(a, ya, b, yb, k) == expected
    monkeypatch.setattr("npae.evaluate.codes.ROWS", 7)
    assert knn(a, ya, b, yb, k) == expected


def test_neighbours_that_the_matrix_product_cannot_tell_apart_are_found():
    """Around 1e6 the product's form of a distance is off by 1e-4; the nearer one is nearer by 1e-6."""
    a = 1e6 * np.array([[1.0, 1], [1, 1], [-1, -1], [-1, -1]]) + [[0, 2e-3], [0, 1e-3], [0, 0], [0, 1]]
    assert knn(a, np.array([5, 6, 7, 8]), np.array([[1e6, 1e6]]), np.array([6]), k=1) == 1


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_neighbours_are_found_at_any_scale(scale):
    h, y = scale * np.random.default_rng(1).standard_normal((30, 3)), np.arange(30)
    assert knn(h, y, h, y, k=1) == 1


def test_classifiers_name_what_does_not_fit():
    (a, ya), (b, yb) = clusters(10), clusters(6)
    for judge in (linear_probe, knn):
        for wrong, message in (((a, ya[:9], b, yb), r"training.*\(10, 4\).*\(9,\)"),
                               ((a, ya, b[:, :3], yb), r"\(4,\) and test codes of shape \(3,\)"),
                               ((a, ya, b * np.nan, yb), "finite"), ((a, ya * 1.0, b, yb), "float64"),
                               ((a, ya, b[:0], yb[:0]), "at least 1 test code")):
            with pytest.raises(ValueError, match=message):
                judge(*wrong)
    with pytest.raises(ValueError, match="10 training codes, fewer than k = 11"):
        knn(a, ya, b, yb, 11)
    with pytest.raises(ValueError, match="ridge of at least 0, got -1"):
        linear_probe(a, ya, b, yb, ridge=-1)


def factors(n=4000, seed=9):
    rng = np.random.default_rng(seed)
    return {"label": rng.integers(0, 10, n), "slant": rng.standard_normal(n), "width": np.exp(rng.standard_normal(n))}


def test_the_gap_is_1_where_each_factor_has_a_number_of_its_own():
    known = factors()
    codes = np.column_stack([known["label"] * -3.0, np.tanh(known["slant"]), known["width"]])
    found = mig(codes, known)
    assert set(found["factors"]) == set(known)
    assert all(0.97 < gap < 1 for gap in found["factors"].values())
    assert found["mig"] == pytest.approx(np.mean(list(found["factors"].values())), rel=1e-15)


def test_the_gap_is_0_for_noise_for_twins_and_for_mixed_factors():
    known = factors()
    noise = np.random.default_rng(10).standard_normal((4000, 3))
    assert 0 <= mig(noise, known)["mig"] < 0.01
    twins = np.column_stack([known["slant"], known["slant"] * 2])
    assert mig(twins, {"slant": known["slant"]})["mig"] == 0
    other = np.random.default_rng(11).standard_normal(4000)
    mixed = np.column_stack([known["slant"] + other, known["slant"] - other])
    assert mig(mixed, {"slant": known["slant"], "other": other})["mig"] < 0.05


def test_the_gap_of_a_table_worked_out_by_hand():
    """h0 tells the factor in half of the cases, h1 nothing: I = ln 2 - (1/2) ln 2."""
    v = np.array([0, 0, 1, 1] * 5)
    h = np.column_stack([np.array([0.0, 1, 1, 2] * 5), np.array([0.0, 1] * 10)])
    assert mig(h, {"v": v})["mig"] == pytest.approx(0.5, rel=1e-12)
    assert mig(h[:, :1], {"v": v})["mig"] == pytest.approx(0.5, rel=1e-12)  # the runner-up is nothing


def test_the_gap_names_what_does_not_fit():
    h = np.random.default_rng(0).standard_normal((30, 2))
    for codes, known, message in ((h, {"v": np.zeros(30, int)}, "'v' has one value in all 30"), (h, {}, "0 factors"),
                                  (h, {"v": np.arange(29)}, r"30 codes, and the factor 'v' of shape \(29,\)"),
                                  (h * np.inf, {"v": np.arange(30)}, "finite"), (h[:, 0], {"v": np.arange(30)}, "30,")):
        with pytest.raises(ValueError, match=message):
            mig(codes, known)
    with pytest.raises(ValueError, match="at least 2 bins, got 1 for codes"):
        mig(h, {"v": np.arange(30)}, bins=1)


def test_pca_gives_codes_and_errors_of_every_length_at_once():
    rng = np.random.default_rng(12)
    train, test = (rng.random((n, 3, 2, 2)) ** 2 for n in (50, 9))
    found = pca(train)
    rows = test.reshape(9, 12) - train.reshape(50, 12).mean(axis=0)
    for k in (0, 2, 12):
        codes = found.codes(test, k)
        back = codes @ found.components[:, :k].T
        assert codes.shape == (9, k) and found.mse(test, k) == pytest.approx(np.square(rows - back).mean(), rel=1e-9,
                                                                             abs=1e-25)
        assert found.mse(test, k) == pca_mse(train, test, k)
    np.testing.assert_allclose(found.codes(train, 12).var(axis=0), found.variances, rtol=1e-9)
    assert (np.diff(found.variances) < 0).all()
    with pytest.raises(ValueError, match=r"0 <= k <= 12.*k = 13"):
        found.codes(test, 13)


def test_pca_sees_the_pictures_that_the_transform_makes_each_once(monkeypatch):
    x = np.random.default_rng(13).random((40, 2, 3, 1))
    monkeypatch.setattr("npae.evaluate.reconstruction.ROWS", 16)
    seen = []

    def transform(batch, rng):
        seen.append(np.ceil(batch - rng.random(batch.shape)))
        return seen[-1]

    found = pca(x, transform=transform, rng=np.random.default_rng(1))
    drawn = np.concatenate(seen)
    assert len(drawn) == 40
    expected = pca(drawn)
    np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-10)
    np.testing.assert_allclose(found.mean, drawn.reshape(40, 6).mean(axis=0), rtol=1e-13)


def encoder(out, seed=0):
    """A curved one, from (5, 4, 2)."""
    rng = np.random.default_rng(seed)
    settings = {"rng": rng, "dtype": np.float64, "kernels": reference}
    return Sequential([Conv2d(2, 3, 3, stride=2, activation="tanh", **settings), Flatten(),
                       Dense(18, out, activation="tanh", **settings)])


def decoder(d):
    return Sequential([Dense(d, 40, dtype=np.float64, kernels=reference), Reshape((5, 4, 2))])


def by_differences(f, x, h=1e-6):
    columns = []
    for i in range(x.size):
        step = np.zeros(x.size)
        step[i] = h
        step = step.reshape(x.shape)
        columns.append((f(x + step) - f(x - step)).ravel() / (2 * h))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("kind", ["plain", "vae"])
def test_singular_values_are_those_of_the_jacobian_by_differences(kind):
    if kind == "plain":
        model = Autoencoder(encoder(3), decoder(3), likelihood=losses.SquaredError(kernels=reference))
    else:
        model = VAE(encoder(6), decoder(3), likelihood=losses.SquaredError(kernels=reference))
    x = np.random.default_rng(14).random((5, 5, 4, 2))
    model.grad[...] = before = np.random.default_rng(15).standard_normal(model.grad.shape)
    found = singular_values(model, x, batch_size=2)
    assert found.shape == (5, 3) and found.dtype == np.float64
    np.testing.assert_array_equal(model.grad, before)
    for s, picture in zip(found, x, strict=True):
        J = by_differences(lambda p: model.encode(p), picture[None])
        assert J.shape == (3, 40)
        np.testing.assert_allclose(s, np.linalg.svd(J, compute_uv=False), rtol=1e-6)
    with pytest.raises(ValueError, match="backward belongs to the latest loss"):
        model.backward()


def test_a_jacobian_leaves_out_the_labels_behind_the_pixels():
    class Told(Autoencoder):
        """The encoder is given [pixels | label]."""

        def _encoder_input(self, x, y):
            return np.hstack([x.reshape(len(x), -1), y[:, None].astype(x.dtype)])

    settings = {"dtype": np.float64, "kernels": reference, "rng": np.random.default_rng(16)}
    model = Told(Sequential([Dense(7, 2, **settings)]), Sequential([Dense(2, 6, **settings), Reshape((2, 3, 1))]))
    found = singular_values(model, np.random.default_rng(0).random((3, 2, 3, 1)), y=np.arange(3))
    expected = np.linalg.svd(model.encoder.layers[0].W.value[:6], compute_uv=False)
    np.testing.assert_allclose(found, np.broadcast_to(expected, (3, 2)), rtol=1e-12)
