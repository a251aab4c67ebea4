"""The recipes: one table of named trainings, each with the settings that `--set key=value` may change.
A recipe says which nets, which objective, which optimizer and how long. Where a paper or a tutorial gives the numbers,
they are its own; the others were searched for, and the reason stands beside them.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npae import init, nets
from npae.data import Dataset
from npae.layers import LeakyReLU
from npae.losses import Bernoulli, Gaussian, SquaredError
from npae.models import (
    IWAE,
    VAE,
    Autoencoder,
    ConditionalVAE,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    Model,
    SparseAutoencoder,
    WeightDecayAutoencoder,
)
from npae.settings import OPTIMIZERS, Recipe, Setting, Settings

Rng = np.random.Generator
EXERCISE = 10_000  # pictures of the UFLDL exercise


# -- settings --


def _common(*, latent: int, epochs: int | None = 20, batch_size: int = 128, optimizer: str = "adam",
            lr: float | None = 1e-3, patience: int = 0, binarize: str = "none",
            more_optimizers: tuple[str, ...] = ()) -> dict[str, Setting]:
    """The settings that every recipe has."""
    optimizers = (*(name for name in OPTIMIZERS if name != "lbfgs"), *more_optimizers)
    return {
        "latent": Setting(latent, "dimensions of the code", least=1),
        "epochs": Setting(epochs, "passes over the training pictures", least=1, kind=int),
        "batch_size": Setting(batch_size, "pictures a step", least=1),
        "optimizer": Setting(optimizer, "how theta moves", choices=optimizers),
        "lr": Setting(lr, "learning rate", least=0, kind=float),
        "pictures": Setting(0, "training pictures used, the first so many (0: all)", least=0),
        "validation": Setting(None, "training pictures set aside (default: a twelfth; 0: none)", least=0, kind=int),
        "patience": Setting(patience, "epochs without a better validation loss until it ends, with the best weights "
                            "(0: it goes on, with the last ones)", least=0),
        "binarize": Setting(binarize, "pixels made 0 or 1", choices=("threshold", "sample", "none")),
    }


def _beta(default: float | None, hint: str = "1: the ELBO") -> Setting:
    return Setting(default, f"weight of the KL term ({hint})", least=0, kind=float)


def _decay(default: float) -> Setting:
    return Setting(default, "lam, the weight of the squared length of all weights", least=0)


# -- autoencoders --


def _conv_ae(s: Settings, data: Dataset, rng: Rng) -> Model:
    return Autoencoder(nets.conv_ae_encoder(data.shape, s["latent"], rng=rng),
                       nets.conv_ae_decoder(data.shape, s["latent"], rng=rng), likelihood=SquaredError())


def _conv_ae_rate(s: Settings, data: Dataset | None) -> str | None:
    """The published runs used RMSprop 3e-4 for ten dimensions and 1e-3 for two."""
    if s["lr"] is not None:
        return None
    s["lr"] = 1e-3 if s["latent"] == 2 else 3e-4
    return "latent=2: the learning rate is 0.001 instead of 0.0003" if s["latent"] == 2 else None


def _mlp(s: Settings, data: Dataset, rng: Rng, dtype: Any = np.float32) -> tuple[Any, Any]:
    """One sigmoid layer down, one layer up to logits."""
    return (nets.mlp_encoder(data.shape, [s["latent"]], code="sigmoid", rng=rng, dtype=dtype),
            nets.mlp_decoder(data.shape, [s["latent"]], rng=rng, dtype=dtype))


def _ae(s: Settings, data: Dataset, rng: Rng) -> Model:
    return Autoencoder(*_mlp(s, data, rng), likelihood=Bernoulli())


def _weight_decay_ae(s: Settings, data: Dataset, rng: Rng) -> Model:
    return WeightDecayAutoencoder(*_mlp(s, data, rng), likelihood=Bernoulli(), lam=s["lam"])


def _denoising_ae(s: Settings, data: Dataset, rng: Rng) -> Model:
    return DenoisingAutoencoder(*_mlp(s, data, rng), likelihood=Bernoulli(), corruption=s["corruption"],
                                amount=s["amount"])


def _sparse_ae(s: Settings, data: Dataset, rng: Rng) -> Model:
    dtype = np.float64 if s["optimizer"] == "lbfgs" else np.float32
    down, up = ([s["latent"]], [s["latent"]])
    return SparseAutoencoder(nets.mlp_encoder(data.shape, down, code="sigmoid", rng=rng, dtype=dtype),
                             nets.mlp_decoder(data.shape, up, pixels="sigmoid", rng=rng, dtype=dtype),
                             likelihood=SquaredError(0.5), rho=s["rho"], beta=s["beta"], lam=s["lam"] / 2)


def _whole_batch(s: Settings, data: Dataset | None) -> str | None:
    """L-BFGS has the exercise's own length and pictures: 10,000, or all where there are fewer."""
    lbfgs = s["optimizer"] == "lbfgs"
    there = EXERCISE if data is None else len(data.train_x)
    if s["epochs"] is None:
        s["epochs"] = 400 if lbfgs else 20
    if s["pictures"] is None:
        s["pictures"] = min(EXERCISE, there) if lbfgs else 0
    return (f"optimizer=lbfgs: {s['epochs']} iterations in float64 on the first {s['pictures'] or there:,} pictures at "
            "once" if lbfgs else None)


def _contractive_ae(s: Settings, data: Dataset, rng: Rng) -> Model:
    encoder, decoder = nets.tied_pair(data.shape, [s["latent"]], activation="sigmoid", pixels=None, rng=rng)
    return ContractiveAutoencoder(encoder, decoder, likelihood=Bernoulli(), lam=s["lam"])


def _conv_pool_ae(s: Settings, data: Dataset, rng: Rng) -> Model:
    return WeightDecayAutoencoder(nets.conv_pool_encoder(data.shape, s["latent"], rng=rng),
                                  nets.conv_pool_decoder(data.shape, s["latent"], rng=rng),
                                  likelihood=Bernoulli(), lam=s["lam"])


def _tied_ae(s: Settings, data: Dataset, rng: Rng) -> Model:
    encoder, decoder = nets.tied_pair(data.shape, [256, 256, 64, s["latent"]], activation="tanh", pixels="tanh",
                                      init=init.fan_in_uniform, mean=data.mean, rng=rng)
    return Autoencoder(encoder, decoder, likelihood=SquaredError())


# -- variational autoencoders --


def _bernoulli_vae(s: Settings, data: Dataset, rng: Rng) -> Model:
    return VAE(nets.bernoulli_vae_encoder(data.shape, s["latent"], rng=rng),
               nets.bernoulli_vae_decoder(data.shape, s["latent"], rng=rng),
               likelihood=Bernoulli(), beta=s["beta"], kl=s["kl"])


def _mlp_vae(s: Settings, data: Dataset, rng: Rng) -> Model:
    return VAE(*_leaky_mlp(s, data, rng), likelihood=Gaussian(0.5), beta=s["beta"])


def _mlp_cvae(s: Settings, data: Dataset, rng: Rng) -> Model:
    if data.classes is None or data.test_y is None:
        part = " of its test pictures" * (data.classes is not None)
        raise ValueError(f"mlp-cvae is told each picture's label, and {data.name} has none{part}: take mlp-vae")
    return ConditionalVAE(*_leaky_mlp(s, data, rng, data.classes), classes=data.classes, likelihood=Gaussian(0.5),
                          beta=s["beta"])


def _leaky_mlp(s: Settings, data: Dataset, rng: Rng, classes: int = 0) -> tuple[Any, Any]:
    """Two hidden layers as wide as the picture, LeakyReLU 0.01, and a sigmoid at the end."""
    D, d = math.prod(data.shape), s["latent"]
    style: dict[str, Any] = {"activation": LeakyReLU(0.01), "init": init.fan_in_uniform, "draw_bias": True, "rng": rng}
    return (nets.mlp_encoder(data.shape, [D, D, 2 * d], classes=classes, **style),
            nets.mlp_decoder(data.shape, [d + classes, D, D], pixels="sigmoid", **style))


def _conv_vae(s: Settings, data: Dataset, rng: Rng) -> Model:
    return VAE(nets.conv_vae_encoder(data.shape, s["latent"], rng=rng),
               nets.conv_vae_decoder(data.shape, s["latent"], rng=rng), likelihood=Bernoulli(), beta=s["beta"])


def _conv_vae_beta(s: Settings, data: Dataset | None) -> str | None:
    """Published: pixel-mean cross-entropy + 5e-4 mean_j(exp(logvar) - 1 - logvar + mu²), times the pixels, in nats."""
    if s["beta"] is not None:
        return None
    D = 784 if data is None else math.prod(data.shape)
    s["beta"] = D * 5e-4 * 2 / s["latent"]
    return f"in nats the published loss is that of a VAE with beta = {D} · 5e-4 · 2 / latent = {s['beta']:.4g}, no ELBO"


def _iwae(s: Settings, data: Dataset, rng: Rng) -> Model:
    d = s["latent"]
    return IWAE(nets.mlp_encoder(data.shape, [200, 200, 2 * d], activation="tanh", rng=rng),
                nets.mlp_decoder(data.shape, [d, 200, 200], activation="tanh", mean=data.mean, rng=rng),
                likelihood=Bernoulli(), samples=s["samples"])


# -- the table --

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (
    Recipe(
        "conv-ae", "convolutional autoencoder", "‖x - x̂‖²", _conv_ae,
        _common(latent=10, epochs=100, batch_size=64, optimizer="rmsprop", lr=None, patience=10),
        drop_last=True, adapt=_conv_ae_rate),
    Recipe(
        "conv-vae", "convolutional VAE with a light KL", "CE(x, x̂) + 0.392 KL", _conv_vae,
        {**_common(latent=2, epochs=10, batch_size=16, optimizer="rmsprop", patience=2),
         "beta": _beta(None, "default: pixels · 5e-4 · 2 / latent, as published")},
        adapt=_conv_vae_beta,
        rmsprop={"rho": 0.99, "eps": 1e-8}),  # batches of 16 are noisy: 0.1885 a pixel after 3 epochs, 0.1908 with 0.9
    Recipe(
        "bernoulli-vae", "convolutional VAE on black-and-white pixels: single-sample ELBO",
        "-log p(x|z) + log q(z|x) - log p(z)", _bernoulli_vae,
        {**_common(latent=2, epochs=10, batch_size=32, lr=1e-4, binarize="threshold"),
         "kl": Setting("sampled", "KL term: drawn with z, or its closed form", choices=("sampled", "analytic")),
         "beta": _beta(1.0)}),
    Recipe(
        "mlp-vae", "dense VAE with a Gaussian of variance ½", "‖x - x̂‖² + KL + 392 ln π", _mlp_vae,
        {**_common(latent=64, epochs=50, batch_size=1024, optimizer="adamw"), "beta": _beta(1.0)}),
    Recipe(
        "mlp-cvae", "the same, told the label: a conditional VAE", "‖x - x̂(z, y)‖² + KL + 392 ln π", _mlp_cvae,
        {**_common(latent=64, epochs=50, batch_size=1024, optimizer="adamw"), "beta": _beta(1.0)}),
    Recipe(
        "tied-ae", "deep autoencoder whose decoder is its encoder's transpose", "‖x - x̂‖², W_dec = W_encᵀ", _tied_ae,
        _common(latent=32, epochs=30, batch_size=20)),
    Recipe(
        "ae", "undercomplete autoencoder", "CE(x, x̂)", _ae, _common(latent=64)),
    Recipe(
        "weight-decay-ae", "overcomplete autoencoder with small weights", "CE(x, x̂) + λ Σ ‖W‖²", _weight_decay_ae,
        {**_common(latent=1024), "lam": _decay(1e-3)}),
    Recipe(
        "overcomplete-ae", "more numbers in the code than pixels, and nothing that holds it back", "CE(x, x̂)", _ae,
        _common(latent=1024)),
    Recipe(
        "denoising-ae", "shown spoilt pictures, asked for the clean ones", "CE(x, x̂(x_noisy))", _denoising_ae,
        {**_common(latent=512),
         "corruption": Setting("masking", "noise on the pictures that it is shown",
                               choices=("masking", "gaussian", "salt_and_pepper")),
         "amount": Setting(0.3, "share of spoilt pixels, or the deviation of Gaussian noise", least=0)}),
    Recipe(
        "sparse-ae", "few units speak for any one picture", "½ ‖x - x̂‖² + λ/2 Σ ‖W‖² + β Σ KL(ρ ‖ ρ̂)", _sparse_ae,
        {**_common(latent=196, epochs=None, more_optimizers=("lbfgs",)),
         "pictures": Setting(None, "training pictures used, the first so many (0: all; default: all, by lbfgs 10,000)",
                             least=0, kind=int),
         "rho": Setting(0.1, "mean activation that each unit should have", least=0),
         "beta": Setting(3.0, "weight of the sparsity", least=0),
         "lam": Setting(3e-3, "weight of half the squared length of all weights", least=0)},
        adapt=_whole_batch),
    Recipe(
        "contractive-ae", "a code that hardly moves when its picture does", "CE(x, x̂) + λ ‖∂h/∂x‖²", _contractive_ae,
        {**_common(latent=256),  # of strokes: 0.1 takes 5 % off the largest singular value, 0.5 adds 7 % to the error
         "lam": Setting(0.3, "weight of the squared Jacobian", least=0)}),
    Recipe(
        "conv-pool-ae", "convolutions with pooling, and upsampling back", "CE(x, x̂) + λ Σ ‖W‖²", _conv_pool_ae,
        {**_common(latent=32), "lam": _decay(1e-4)}),
    Recipe(
        "iwae", "importance-weighted autoencoder", "-log 1/k Σ p(x, z_k) / q(z_k|x)", _iwae,
        {**_common(latent=50, epochs=30, batch_size=100, binarize="sample"),
         "samples": Setting(5, "k, samples of z a picture", least=1)}),
)}


def get(name: str) -> Recipe:
    """The recipe of a name.

    Raises ValueError: an unknown name (the known ones are listed).
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}: use one of {', '.join(RECIPES)}")
    return RECIPES[name]


__all__ = ["OPTIMIZERS", "RECIPES", "Recipe", "Setting", "Settings", "get"]
