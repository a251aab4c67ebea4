"""The five tutorial models as one would write them in PyTorch: nets, objectives, optimizers.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ---- the nets

def conv_ae(latent: int) -> tuple[nn.Sequential, nn.Sequential]:
    encoder = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(7 * 7 * 8, latent))
    decoder = nn.Sequential(
        nn.Linear(latent, 7 * 7 * 64), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
        nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(64, 32, 3, 1, 1), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(32, 1, 3, 1, 1), nn.Sigmoid())
    return encoder, decoder


def conv_vae(latent: int) -> tuple[nn.Sequential, nn.Sequential]:
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(14 * 14 * 64, 32), nn.ReLU(), nn.Linear(32, 2 * latent))
    decoder = nn.Sequential(
        nn.Linear(latent, 14 * 14 * 64), nn.ReLU(), nn.Unflatten(1, (64, 14, 14)),
        nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, 1, 1))
    return encoder, decoder


def bernoulli_vae(latent: int) -> tuple[nn.Sequential, nn.Sequential]:
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 6 * 64, 2 * latent))
    decoder = nn.Sequential(
        nn.Linear(latent, 7 * 7 * 32), nn.ReLU(), nn.Unflatten(1, (32, 7, 7)),
        nn.ConvTranspose2d(32, 64, 3, 2, 1, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 3, 1, 1))
    return encoder, decoder


def mlp_vae(latent: int) -> tuple[nn.Sequential, nn.Sequential]:
    encoder = nn.Sequential(
        nn.Linear(784, 784), nn.LeakyReLU(0.01), nn.Linear(784, 784), nn.LeakyReLU(0.01), nn.Linear(784, 2 * latent))
    decoder = nn.Sequential(
        nn.Linear(latent, 784), nn.LeakyReLU(0.01), nn.Linear(784, 784), nn.LeakyReLU(0.01),
        nn.Linear(784, 784), nn.Sigmoid())
    return encoder, decoder


# ---- the objectives: sums over pixels and codes, means over pictures, without the constants of a likelihood

class Autoencoder(nn.Module):
    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor, target: Tensor, eps: None) -> Tensor:
        return F.mse_loss(self.decoder(self.encoder(x)), target, reduction="sum") / len(x)


class TiedAutoencoder(nn.Module):
    """The decoder's matrices are the encoder's, transposed."""

    def __init__(self, latent: int, mean: Tensor):
        super().__init__()
        widths = (784, 256, 256, 64, latent)
        self.encoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(n) for n in widths[-2::-1])
        self.register_buffer("mean", mean)

    def forward(self, x: Tensor, target: Tensor, eps: None) -> Tensor:
        h = x - self.mean
        for layer in self.encoder:
            h = torch.tanh(layer(h))
        for layer, bias in zip(reversed(self.encoder), self.biases, strict=True):
            h = torch.tanh(F.linear(h, layer.weight.t(), bias))
        return F.mse_loss(h + self.mean, target, reduction="sum") / len(x)


class VAE(nn.Module):
    def __init__(self, encoder: nn.Module, decoder: nn.Module, nll: Callable[..., Tensor], beta: float, kl: str):
        super().__init__()
        self.encoder, self.decoder, self.nll, self.beta, self.kl = encoder, decoder, nll, beta, kl

    def forward(self, x: Tensor, target: Tensor, eps: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.exp(logvar / 2) * eps
        if self.kl == "analytic":
            kl = -0.5 * torch.sum(1 + logvar - mu * mu - logvar.exp())
        else:  # log q(z|x) - log p(z)
            kl = 0.5 * torch.sum(z * z - eps * eps - logvar)
        return (self.nll(self.decoder(z), target, reduction="sum") + self.beta * kl) / len(x)


def build(facts: dict[str, Any], mean: Tensor | None) -> nn.Module:
    """The model of a recipe."""
    latent, beta, kl = facts["latent"], facts["beta"], facts["kl"]
    bernoulli = F.binary_cross_entropy_with_logits
    if facts["recipe"] == "tied-ae":
        assert mean is not None
        return TiedAutoencoder(latent, mean)
    if facts["recipe"] == "conv-ae":
        return Autoencoder(*conv_ae(latent))
    if facts["recipe"] == "conv-vae":
        return VAE(*conv_vae(latent), bernoulli, beta, kl)
    if facts["recipe"] == "bernoulli-vae":
        return VAE(*bernoulli_vae(latent), bernoulli, beta, kl)
    return VAE(*mlp_vae(latent), F.mse_loss, beta, kl)  # a Gaussian of variance 1/2


def build_optimizer(config: dict[str, Any], params: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    """The same optimizer, in the fastest form that PyTorch has of it."""
    name, lr, eps = config["optimizer"], config["lr"], config["eps"]
    if name == "RMSprop":
        return torch.optim.RMSprop(params, lr, alpha=config["rho"], eps=eps, foreach=True)
    betas = config["beta1"], config["beta2"]
    if name == "Adam":
        return torch.optim.Adam(params, lr, betas, eps, fused=True)
    return torch.optim.AdamW(params, lr, betas, eps, weight_decay=config["decay"], fused=True)
