"""Autoencoders: each file is one objective; encoder and decoder are arguments.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npae import interop as _interop
from npae import losses as _losses
from npae import store as _store
from npae.models.autoencoder import Autoencoder
from npae.models.base import Model
from npae.models.conditional import ConditionalVAE
from npae.models.contractive import ContractiveAutoencoder
from npae.models.denoising import DenoisingAutoencoder
from npae.models.iwae import IWAE
from npae.models.rebuild import rebuilt, weights_of
from npae.models.sparse import SparseAutoencoder
from npae.models.vae import VAE
from npae.models.weight_decay import WeightDecayAutoencoder

__all__ = ["IWAE", "KINDS", "VAE", "Autoencoder", "ConditionalVAE", "ContractiveAutoencoder", "DenoisingAutoencoder",
           "Model", "SparseAutoencoder", "WeightDecayAutoencoder", "load"]

KINDS: tuple[type[Model], ...] = (Autoencoder, WeightDecayAutoencoder, DenoisingAutoencoder, SparseAutoencoder,
                                  ContractiveAutoencoder, VAE, ConditionalVAE, IWAE)
LIKELIHOODS = (_losses.Bernoulli, _losses.Gaussian, _losses.SquaredError)


def load(path: str | Path, *, custom: Sequence[type] = ()) -> Any:
    """The model that `model.save(path)` wrote, rebuilt layer by layer; `custom` lists a user's own classes of layers,
    likelihoods and models.

    Raises CheckpointError: not a model file; an unknown kind of model, likelihood or layer; parameters that do not fit.
    """
    arrays, config = (_interop if Path(path).suffix == _interop.SUFFIX else _store).read(path)
    if (claimed := weights_of(config)) > sum(array.size for array in arrays.values()):
        raise _store.CheckpointError(f"{path} describes layers of {claimed} weights, and has "
                                     f"{sum(array.size for array in arrays.values())} numbers")
    try:
        model = rebuilt(config, (*KINDS, *LIKELIHOODS, *custom))
    except ValueError as error:
        raise _store.CheckpointError(f"{path} does not describe a model that this version knows: {error}") from None
    for p in model.params:
        stored = arrays.pop(p.name, None)
        if stored is None or stored.shape != p.value.shape or stored.dtype != p.value.dtype:
            found = "nothing" if stored is None else f"{stored.dtype} of shape {stored.shape}"
            raise _store.CheckpointError(f"{path}: {p.name} should be {p.value.dtype} of shape {p.value.shape}, "
                                         f"found {found}")
        p.value[...] = stored
    if arrays:
        raise _store.CheckpointError(f"{path} holds {len(arrays)} arrays that the model has no place for: "
                                     f"{', '.join(sorted(arrays))}")
    return model
