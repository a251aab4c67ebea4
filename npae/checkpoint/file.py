"""What a checkpoint holds, how it is written, and how a fit takes it over."""
from __future__ import annotations

import hashlib
import json
import os
import platform
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from npae import store
from npae._version import __version__
from npae.callbacks import Callback, State
from npae.checkpoint.tree import decode, encode
from npae.models.base import Model
from npae.optim import Optimizer
from npae.store import CheckpointError

KIND = "npae checkpoint 1"
Kind = type | tuple[type, ...]
PARTS: dict[str, Kind] = {"kind": str, "versions": dict, "config": dict, "config_sha256": str, "training": dict}
TRAINING: dict[str, Kind] = {
    "theta": np.ndarray, "optimizer": dict, "epoch": int, "step": int, "images": int, "seconds": float, "sums": dict,
    "stop": (str, NoneType), "order": (np.ndarray, NoneType), "generators": dict, "callbacks": list}


def save(path: str | Path, state: State) -> None:
    """Write all that a fit needs to go on: when this returns, the file is on the disk, and after a crash at any moment
    the path holds the old checkpoint or the new one.

    Raises ValueError: weights or moments that are not finite, or a memory of a callback that no file can hold; OSError
    where it cannot be written. The old checkpoint stays then.
    """
    _refuse_what_is_not_finite(state, path)
    arrays: dict[str, np.ndarray] = {}
    training = {
        "theta": state.model.theta, "optimizer": state.optimizer.state(), "epoch": state.epoch,
        "step": 0 if state.order is None else state.step, "images": state.images, "seconds": float(state.seconds),
        "sums": state.sums, "stop": state.stop, "order": state.order,
        "generators": {name: rng.bit_generator.state for name, rng in state.generators.items()},
        "callbacks": [[type(c).__name__, c.state()] for c in _with_memory(state.callbacks)]}
    meta = {"kind": KIND, "versions": versions(), "config": state.config, "config_sha256": _digest(state.config),
            "training": encode(training, "", arrays)}
    store.write(path, arrays, meta)


def restore(state: State, path: str | Path) -> None:
    """Put a fit that is about to begin where the checkpoint stood: theta, moments, generators, place in the epoch,
    memories of the callbacks.

    What cannot be the same bits here (another NumPy, another processor) is said in a RuntimeWarning.
    Raises CheckpointError: a file that is damaged, or that belongs to another fit; theta is as it was then. OSError
    where it cannot be opened. ValueError: no path.
    """
    if not isinstance(path, str | os.PathLike):  # open(True) would take, and close, standard output
        raise ValueError(f"resume is the path of a checkpoint, such as 'c.npz', got {path!r}")
    arrays, meta = _read(path)
    _refuse_another_fit(path, meta, state.config)
    try:
        training = _checked(decode(meta["training"], arrays), TRAINING)
        if arrays:
            raise CheckpointError(f"{len(arrays)} arrays have no place in it: {', '.join(sorted(arrays))}")
        _take_over(state, training)
    except Exception as error:  # a memory's own restore may raise anything
        what = f"{type(error).__name__} {error}" if not isinstance(error, ValueError) else str(error)
        raise CheckpointError(f"{path} is refused: {what}") from error
    if different := [f"{name} was {was} and is {now}" for (name, was), now
                     in zip(meta["versions"].items(), versions().values(), strict=True) if was != now]:
        warnings.warn(f"going on from {path} is not bit-exact here, because {' and '.join(different)}", RuntimeWarning,
                      stacklevel=3)


def place(path: str | Path) -> str:
    """'epoch 3, batch 17': where the training stood when a checkpoint was written."""
    training = _read(path)[1]["training"]
    epoch, step = training["epoch"], training["step"]
    return f"epoch {epoch + 1}, batch {step}" if step else f"epoch {epoch}"


def configuration(model: Model, optimizer: Optimizer, data: Sequence[np.ndarray | None],
                  validation: Sequence[np.ndarray | None], transform: Any, **settings: Any) -> dict[str, Any]:
    """What two fits must share for one to go on where the other was: as JSON; of the data their SHA-256.

    The data come first, since a model may have their mean: what is told is the first difference.
    """
    config = {"data": _sha256(data), "validation": _sha256(validation),
              "model": model.config(), "parameters": [[p.name, p.value.shape] for p in model.params],
              "dtype": str(model.theta.dtype), "optimizer": optimizer.config(),
              "transform": getattr(transform, "__qualname__", None if transform is None else type(transform).__name__),
              **settings}
    store.check_json(config, "the configuration of the fit")
    return json.loads(json.dumps(config))


def versions() -> dict[str, str]:
    """What the last bits of a training depend on beside the code and the seed."""
    from importlib import metadata  # takes its time

    vectors: Any = np.show_config(mode="dicts")
    try:
        numba = metadata.version("numba")
    except metadata.PackageNotFoundError:
        numba = "missing"
    return {"npae": __version__, "numpy": np.__version__, "numba": numba, "machine": platform.machine(),
            "vectors": " ".join(vectors.get("SIMD Extensions", {}).get("found", []))}


# -- writing --


def _refuse_what_is_not_finite(state: State, path: str | Path) -> None:
    vectors = {p.name: p.value for p in state.model.params} | {
        f"{type(state.optimizer).__name__}'s {name}": moment for name, moment in state.optimizer.moments.items()}
    for name, vector in vectors.items():
        if not np.isfinite(vector).all():
            kept = "the checkpoint before it stays" if Path(path).exists() else "there is no checkpoint before it"
            raise ValueError(f"{name} is not finite after batch {state.step} of epoch "
                             f"{state.epoch + (state.order is not None)}, and is not saved; {kept}: use a smaller "
                             "learning rate, and look at the data")


def check_memories(callbacks: Sequence[Callback]) -> None:
    """Look at what the callbacks remember before hours of training go into it.

    Raises ValueError: a memory that no file can hold, or one that is never taken back.
    """
    for c in _with_memory(callbacks):
        name = type(c).__name__
        if getattr(type(c), "restore", Callback.restore) is Callback.restore:
            raise ValueError(f"{name} has a state() and no restore(state): a training that goes on would forget it")
        try:
            arrays: dict[str, np.ndarray] = {}
            store.check_json(encode(c.state(), "state", arrays), f"{name}.state()")
            for path, array in arrays.items():
                store.storable(path, array)
        except store.StoreError as error:
            raise ValueError(f"the memory of {name} goes into no checkpoint: {error}") from None


def _with_memory(callbacks: Sequence[Callback]) -> list[Callback]:
    """Those that remember something, and say so by a `state` of their own."""
    return [c for c in callbacks if getattr(type(c), "state", Callback.state) is not Callback.state]


def _digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _sha256(arrays: Sequence[np.ndarray | None]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.dtype.str} {array.shape}".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


# -- reading --


def _read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the meta, which is as `save` makes it as far as anything is read of it."""
    arrays, meta = store.read(path)
    try:
        _checked(meta, PARTS)
        if meta["kind"] != KIND or _digest(meta["config"]) != meta["config_sha256"]:
            raise CheckpointError(f"it is no {KIND!r} with a config that its digest fits")
        if set(meta["versions"]) != set(versions()) or any(type(meta["training"].get(key)) is not int
                                                           for key in ("epoch", "step")):
            raise CheckpointError("its versions, or its place in the training, are not there")
    except CheckpointError as error:
        raise CheckpointError(f"{path} is no checkpoint: {error}") from None
    return arrays, meta


def _checked(found: Any, wanted: dict[str, Kind]) -> dict[str, Any]:
    if not isinstance(found, dict) or set(found) != set(wanted):
        raise CheckpointError(f"it should have {', '.join(wanted)}, and nothing else")
    for key, kind in wanted.items():
        if not isinstance(found[key], kind):
            raise CheckpointError(f"its {key} is of the kind {type(found[key]).__name__}")
    return found


def _refuse_another_fit(path: str | Path, meta: dict[str, Any], config: dict[str, Any]) -> None:
    if meta["config_sha256"] == _digest(config):
        return
    key, *both = _difference("configuration", meta["config"], config)
    then, now = (textwrap.shorten(json.dumps(value), 100) for value in both)
    raise CheckpointError(f"{path} belongs to another fit: its {key} is {then}, and this fit's is {now}; pass what the "
                          "interrupted fit was given, or begin anew without resume")


def _difference(where: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """The first place in which two trees differ, as a path, and what stands there in each."""
    if isinstance(was, dict) and isinstance(now, dict) and set(was) == set(now):
        pairs = [(f"{where}.{key}".removeprefix("configuration."), was[key], now[key]) for key in now]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [(f"{where}.{i}", *pair) for i, pair in enumerate(zip(was, now, strict=True))]
    else:
        return where, was, now
    return next((_difference(*pair) for pair in pairs if pair[1] != pair[2]), (where, was, now))


def _take_over(state: State, training: dict[str, Any]) -> None:
    theta, order, epoch, step = (training[key] for key in ("theta", "order", "epoch", "step"))
    moments = [part for part in training["optimizer"].values() if isinstance(part, np.ndarray)]
    for vector in (theta, *moments):
        if vector.shape != state.model.theta.shape or vector.dtype != state.model.theta.dtype:
            raise CheckpointError(f"it has a vector of {vector.dtype} {vector.shape}, and the model's theta is "
                                  f"{state.model.theta.dtype} {state.model.theta.shape}")
    begun = epoch + (order is not None)  # an epoch that is begun is one of those that the fit asks for
    if epoch < 0 or begun > state.epochs or not 0 <= step <= state.steps * (order is not None):
        raise CheckpointError(f"it stands in batch {step} after {epoch} epochs, and the fit has {state.steps} batches "
                              f"and {state.epochs} epochs: ask for more epochs")
    if order is not None and not np.array_equal(np.sort(order), np.arange(len(order))):
        raise CheckpointError("its order does not name each picture once")
    if set(training["generators"]) != set(state.generators):
        raise CheckpointError(f"it has the generators {', '.join(training['generators'])}")
    memories, names = _with_memory(state.callbacks), [row[0] for row in training["callbacks"]]
    if names != [type(c).__name__ for c in memories]:
        raise CheckpointError(f"it has memories of {', '.join(names)}, and the callbacks that remember are "
                              f"{', '.join(type(c).__name__ for c in memories)}: pass the same ones in the same order")
    for name, rng in state.generators.items():
        rng.bit_generator.state = training["generators"][name]
    state.optimizer.restore(training["optimizer"])
    for callback, (_, memory) in zip(memories, training["callbacks"], strict=True):
        callback.restore(memory)
    state.epoch, state.step, state.order = epoch, step, order
    state.images, state.seconds, state.sums, state.stop = (
        training[key] for key in ("images", "seconds", "sums", "stop"))
    state.terms = {name: value / state.images for name, value in state.sums.items()}
    state.model.theta[...] = theta
