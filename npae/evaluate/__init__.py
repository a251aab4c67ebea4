"""Measures a trained model in units that can be compared with published figures.

Every number is a mean over all the pictures given, each picture counted once, and says its unit.
"""
from __future__ import annotations

from npae.evaluate.bounds import (
    active_units,
    bits_per_pixel,
    code_statistics,
    elbo,
    grey_floor,
    has_nats,
    kl_per_dimension,
)
from npae.evaluate.codes import knn, linear_probe, mig
from npae.evaluate.importance import log_likelihood
from npae.evaluate.jacobian import singular_values
from npae.evaluate.reconstruction import PCA, loss_terms, pca, pca_mse, reconstruction_mse

__all__ = [
    "PCA", "active_units", "bits_per_pixel", "code_statistics", "elbo", "grey_floor", "has_nats", "kl_per_dimension",
    "knn", "linear_probe", "log_likelihood", "loss_terms", "mig", "pca", "pca_mse", "reconstruction_mse",
    "singular_values",
]
