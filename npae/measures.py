"""All figures of a model on the test pictures of a data set, gathered into one dict that JSON can hold.
`cheap` is what a training ends with, a few seconds; `measure` is everything that applies, a minute or two.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from npae import evaluate
from npae.data import Dataset, strokes
from npae.data.batches import Transform, batches
from npae.losses import Bernoulli

TRAIN = 10_000  # training pictures that the two classifiers learn from, the first ones
PICTURES, SAMPLES, FULL_SAMPLES = 1000, 1000, 5000  # of the log-likelihood; all pictures with `full`
PIXELS = 4096  # of a picture, from which on PCA and classifiers of raw pixels would take minutes and gigabytes
MSE, NATS, BITS = "squared grey level per pixel", "nats per image", "bits per pixel"
SHARE = "share of the test pictures"
Figures = dict[str, Any]


class Figure(NamedTuple):
    """How a figure is shown: its name, its unit, its digits, and which way is better (+1 up, -1 down, 0 neither)."""

    label: str
    unit: str
    digits: str
    better: int = 0


FIGURES: dict[str, Figure] = {  # path in "test" -> figure, in the order in which they are printed
    "mse": Figure("squared error", MSE, ".5f", -1),
    "mse_pca": Figure("squared error of PCA, as many numbers", MSE, ".5f"),
    "mse_from_noisy": Figure("squared error, from noisy pictures", MSE, ".5f", -1),
    "mse_noisy": Figure("squared error of the noisy pictures", MSE, ".5f"),
    "compression": Figure("compression", "pixels for a number of the code", ".1f"),
    "elbo": Figure("ELBO", NATS, ".2f", +1),
    "cross_entropy_bound": Figure("grey pixels: -(cross-entropy + KL)", NATS, ".2f", +1),
    "recon": Figure("cost of the pixels", NATS, ".2f"),
    "kl": Figure("cost of the code", NATS, ".2f"),
    "floor": Figure("grey pixels: least cross-entropy", NATS, ".2f"),
    "bits_per_pixel": Figure("ELBO as code length", BITS, ".4f", -1),
    "recon_bits_per_pixel": Figure("cost of the pixels", BITS, ".4f"),
    "kl_bits_per_pixel": Figure("cost of the code", BITS, ".4f"),
    "log_likelihood.log_likelihood": Figure("log-likelihood", NATS, ".2f", +1),
    "cross_entropy_estimate.cross_entropy_estimate": Figure("grey pixels: by importance samples", NATS, ".2f", +1),
    **{f"{name}.{key}": figure for name in ("log_likelihood", "cross_entropy_estimate") for key, figure in {
        "se": Figure("its standard error", NATS, ".2f"),
        "se_samples": Figure("its error by the samples alone", NATS, ".3f"),
        "elbo": Figure("ELBO of its pictures", NATS, ".2f"),
        "cross_entropy_bound": Figure("its pictures: -(cross-entropy + KL)", NATS, ".2f"),
        "effective_samples": Figure("its samples that count", "a picture", ".1f"),
        "pictures": Figure("its pictures", "", ",d"),
        "samples": Figure("its samples", "a picture", ",d")}.items()},
    "active_units": Figure("active units", "numbers of the code", "d"),
    "kl_per_dimension": Figure("KL of each number of the code", NATS, ".2f"),
    **{f"{judge}.{what}": Figure(f"{name} on {written}", SHARE, ".4f", +1 if what == "codes" else 0)
       for judge, name in (("probe", "linear probe"), ("knn", "5 nearest neighbours"))
       for what, written in (("codes", "codes"), ("pca", "codes of PCA"), ("pixels", "pixels"))},
    "mig.mig": Figure("mutual information gap", "share of the factors' entropy", ".3f", +1),
}


def cheap(model: Any, dataset: Dataset, *, transform: Transform | None,
          rng: np.random.Generator) -> dict[str, Any]:
    """{"test": figures, "units": {figure: unit}, "notes": [sentence, ...]}: reconstruction error, compression, and the
    ELBO with its terms where there is one.

    Units: beside the figures, in "units"
    Raises ValueError: figures that are not finite
    """
    test, notes = _reconstruction(model, dataset, transform, rng)
    return _finished(model, test, notes)


def measure(model: Any, dataset: Dataset, *, transform: Transform | None, rng: np.random.Generator,
            full: bool = False, progress: bool = False) -> dict[str, Any]:
    """What `cheap` gives, with the same numbers, and everything else that applies to the model and the data.

    PCA with as many numbers (fitted on the training set); the importance-sampled log-likelihood of the first 1,000
    test pictures with 1,000 samples each, or of all with 5,000 (`full`: an hour or so for a convolutional decoder); KL
    of each number of the code and active units; the accuracy of a linear probe and of 5 nearest neighbours on codes,
    PCA codes and pixels; on the generated `strokes`, whose factors are known, the mutual information gap.

    Units: beside the figures, in "units"
    Raises ValueError: figures that are not finite
    """
    test, notes = _reconstruction(model, dataset, transform, rng)
    if hasattr(model, "corrupt"):
        test.update(_from_noisy(model, dataset, transform, rng))
    if hasattr(model, "encode_stats"):
        _bounds(model, dataset, transform, rng, test, full, progress)
    _against_pca(model, dataset, transform, rng, test, notes)
    return _finished(model, test, notes)


def numbers(test: Figures) -> Iterator[tuple[str, Any]]:
    """(path, value) of every figure that is there, in the order of FIGURES."""
    for path in FIGURES:
        value: Any = test
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            yield path, value


def _labels(model: Any, y: np.ndarray | None) -> np.ndarray | None:
    """The labels, for a model that takes them."""
    return None if getattr(model, "classes", None) is None else y


def _reconstruction(model: Any, dataset: Dataset, transform: Transform | None,
                    rng: np.random.Generator) -> tuple[Figures, list[str]]:
    x, y = dataset.test_x, _labels(model, dataset.test_y)
    D = math.prod(dataset.shape)
    test: Figures = {}
    notes: list[str] = []
    if evaluate.has_nats(model):
        if hasattr(model, "encode_stats"):
            test.update(evaluate.elbo(model, x, rng=rng, y=y, transform=transform))
        else:
            test["recon"] = _description(model, x, y, transform, rng)
        floor = evaluate.grey_floor(x, transform=transform, rng=rng) if isinstance(model.likelihood, Bernoulli) else 0
        if floor:
            test["floor"] = floor
            notes.append("cross-entropy of grey pixels, not a log-likelihood: on these test pictures its floor is "
                         f"{floor:.2f} nats per image")
        if "elbo" in test:
            test["bits_per_pixel"] = evaluate.bits_per_pixel(test["elbo"], D)
            test.update({f"{name}_bits_per_pixel": evaluate.bits_per_pixel(-test[name], D) for name in ("recon", "kl")})
        if not isinstance(model.likelihood, Bernoulli):
            notes.append("a density of grey levels in [0, 1]: its nats may have either sign, and cannot be compared "
                         "with those of black-and-white pixels")
    elif hasattr(model, "encode_stats"):
        terms = evaluate.loss_terms(model, x, y, rng=rng, transform=transform)
        test.update({name: terms[name] for name in ("recon", "kl") if name in terms})
        notes.append(f"recon is in {model.likelihood.unit}, kl in nats: their sum is no ELBO")
    test["mse"] = evaluate.reconstruction_mse(model, x, y=y, transform=transform, rng=rng)
    one, _ = next(batches(x[:1], None, 1, noise=np.random.default_rng(0), transform=transform, dtype=model.theta.dtype))
    test["compression"] = D / model.encode(one, None if y is None else y[:1]).size
    return test, notes


def _over(model: Any, x: np.ndarray, y: np.ndarray | None, transform: Transform | None, rng: np.random.Generator,
          f: Callable[..., Any]) -> list[Any]:
    """f(x, y) of each batch."""
    return [f(*pair) for pair in batches(x, y, 256, noise=rng, transform=transform, dtype=model.theta.dtype)]


def _description(model: Any, x: np.ndarray, y: np.ndarray | None, transform: Transform | None,
                 rng: np.random.Generator) -> float:
    """The likelihood's nll of pictures given their own code: of a model without a prior the only term that is said."""
    def nll(x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        return model.likelihood.per_image(model.decoder_output(model.encode(x, y), y), x)

    return float(np.concatenate(_over(model, x, y, transform, rng, nll)).mean())


def _from_noisy(model: Any, dataset: Dataset, transform: Transform | None, rng: np.random.Generator) -> Figures:
    """Of a denoising model: how far the noisy pictures are from the clean ones, before and after."""
    def errors(x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        noisy = model.corrupt(x, rng)
        return np.array([np.square(np.subtract(x, other, dtype=np.float64)).sum()
                         for other in (noisy, model.reconstruct(noisy, y))])

    x = dataset.test_x
    before, after = sum(_over(model, x, _labels(model, dataset.test_y), transform, rng, errors)) / x.size
    return {"mse_noisy": float(before), "mse_from_noisy": float(after)}


def _bounds(model: Any, dataset: Dataset, transform: Transform | None, rng: np.random.Generator, test: Figures,
            full: bool, progress: bool) -> None:
    """What needs a prior."""
    x, y = dataset.test_x, _labels(model, dataset.test_y)
    mu, logvar = evaluate.code_statistics(model, x, y=y, transform=transform, rng=rng)
    test["active_units"] = evaluate.active_units(mu)
    test["kl_per_dimension"] = evaluate.kl_per_dimension(mu, logvar).tolist()
    if evaluate.has_nats(model):
        n = len(x) if full else min(PICTURES, len(x))
        found = evaluate.log_likelihood(model, x[:n], y=None if y is None else y[:n], rng=rng, transform=transform,
                                        samples=FULL_SAMPLES if full else SAMPLES, progress=progress)
        test["log_likelihood" if "log_likelihood" in found else "cross_entropy_estimate"] = found


def _against_pca(model: Any, dataset: Dataset, transform: Transform | None, rng: np.random.Generator, test: Figures,
                 notes: list[str]) -> None:
    """The code beside PCA's and beside the raw pixels."""
    D, n = math.prod(dataset.shape), min(TRAIN, len(dataset.train_x))
    seen: dict[str, Any] = {"transform": transform, "rng": rng}
    parts = ((dataset.train_x[:n], None if dataset.train_y is None else dataset.train_y[:n]),
             (dataset.test_x, dataset.test_y))

    def rows(x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        return model.encode(x, y).reshape(len(x), -1)

    codes = {"codes": [np.concatenate(_over(model, x, _labels(model, y), transform, rng, rows)) for x, y in parts]}
    if D <= PIXELS:
        k = min(codes["codes"][0].shape[1], D)
        pca = evaluate.pca(dataset.train_x, **seen)
        test["mse_pca"] = pca.mse(dataset.test_x, k, **seen)
        codes["pca"] = [pca.codes(x, k, **seen) for x, _ in parts]
        codes["pixels"] = [np.concatenate(_over(model, x, y, transform, rng, lambda x, y: x)) for x, y in parts]
    else:
        notes.append(f"no PCA and no classifier of raw pixels: pictures of {D:,} pixels, more than {PIXELS:,}")
    (_, train_y), (_, test_y) = parts
    if train_y is None or test_y is None:
        notes.append("no probe and no nearest neighbours: the pictures have no labels")
    else:
        for judge, accuracy in (("probe", evaluate.linear_probe), ("knn", evaluate.knn)):
            test[judge] = {what: accuracy(a, train_y, b, test_y) for what, (a, b) in codes.items()}
        notes.append(f"probe and nearest neighbours learn from the first {n:,} training pictures")
        if getattr(model, "classes", None) is not None:
            notes.append("the model is told the label: its nats are those of a picture given the label, and a code "
                         "that leaves the label out gives the probe little")
    known = _factors(dataset)
    if known is not None:
        test["mig"] = evaluate.mig(codes["codes"][1], known)


def _factors(dataset: Dataset) -> dict[str, np.ndarray] | None:
    """What the generated test pictures were made from; None for other pictures."""
    if dataset.name != "strokes" or dataset.test_y is None:
        return None
    labels, factors = strokes.factors(len(dataset.test_x), 0, stream=1)
    if not np.array_equal(labels, dataset.test_y):  # of another seed, or a file of that name
        return None
    return {"label": labels, **{name: factors[name] for name in strokes.FACTORS.names or () if name != "skeleton"}}


def _finished(model: Any, test: Figures, notes: list[str]) -> dict[str, Any]:
    """In order, with units, and looked at.

    Raises ValueError: figures that are not finite
    """
    found = dict(numbers(test))
    if not all(np.isfinite(value).all() for value in found.values()):
        raise ValueError(f"the figures of the test pictures are {found}: the training has diverged; train again with a "
                         "smaller --set lr=...")
    units = {path: FIGURES[path].unit for path in found}
    if "recon" in units:
        units["recon"] = model.likelihood.unit
    return {"test": test, "units": units, "notes": notes}
