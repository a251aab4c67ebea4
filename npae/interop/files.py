"""safetensors files: arrays by name, and for npae's own models a manifest with every array's digest.
The format has no checksum of its own; the library safetensors reads and writes its bytes.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npae import store

FORMAT = "npae safetensors 1"
SUFFIX = ".safetensors"


def write(path: str | Path, arrays: Mapping[str, np.ndarray], meta: dict[str, Any]) -> None:
    """`store.write` as a safetensors file: the manifest with every array's SHA-256, and `meta`, stand in its metadata.

    Raises: StoreError for an array that safetensors does not hold, or a `meta` that JSON cannot hold exactly.
    """
    store.check_json(meta, "meta")
    table = {name: _entry(name, array) for name, array in arrays.items()}
    manifest = json.dumps({"format": FORMAT, "arrays": table, "meta": meta})
    write_tensors(path, arrays, {"npae": f"{_sha256(manifest.encode())} {manifest}"})


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the meta of a file that `write` wrote; every digest is compared.

    Raises: CheckpointError for anything else; OSError where the file cannot be opened.
    """
    arrays, metadata = _read(path)
    if "npae" not in metadata:
        raise store.CheckpointError(f"{path} has {len(arrays)} tensors and no description of a model of npae: build "
                                    "the model, and fill it by interop.from_pytorch(model, interop.read_tensors(path), "
                                    "names)")
    try:
        return arrays, _described(arrays, metadata["npae"])
    except store.StoreError as error:
        raise store.CheckpointError(f"{path} is refused: {error}") from None


def write_tensors(path: str | Path, tensors: Mapping[str, np.ndarray],
                  metadata: Mapping[str, str] | None = None) -> None:
    """Named arrays as a safetensors file, for PyTorch's `load_file`, say; the old file or the new one after a crash.

    Raises: StoreError for a dtype that safetensors does not hold; ValueError where the library is not installed.
    """
    library = _library()
    rows = {name: store.storable(name, array) for name, array in tensors.items()}
    try:
        data = library.numpy.save(rows, None if metadata is None else dict(metadata))
    except (library.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise store.StoreError(f"safetensors does not hold this: {error}") from None
    with store.atomic(path) as file:
        file.write(data)


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file by name: of PyTorch's `save_file(model.state_dict(), path)`, say.

    Raises: CheckpointError for what is no whole safetensors file, or holds what NumPy has not (bfloat16); OSError where
    it cannot be opened; ValueError where the library is not installed.
    """
    return _read(path)[0]


def _read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    library = _library()
    with open(path, "rb") as file:  # the library's own error of a file that cannot be opened has no path
        if not file.read(1):
            raise store.CheckpointError(f"{path} is empty, no safetensors file")
    try:
        with library.safe_open(path, framework="numpy") as opened:
            names = opened.keys()  # a list: what is opened is no dict
            return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
    except (library.SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise store.CheckpointError(f"{path} is no safetensors file that NumPy can hold: {error}") from None


def _described(arrays: Mapping[str, np.ndarray], text: str) -> dict[str, Any]:
    """The meta, if the manifest is whole and says of the arrays what they are."""
    digest, _, text = text.partition(" ")
    if digest != _sha256(text.encode()):
        raise store.StoreError(f"its manifest has SHA-256 {_sha256(text.encode())}, it says {digest[:64]}")
    manifest = store.from_json(text.encode())
    if not (isinstance(manifest, dict) and set(manifest) == {"format", "arrays", "meta"}
            and isinstance(manifest["arrays"], dict) and isinstance(manifest["meta"], dict)):
        raise store.StoreError("its manifest has no format, arrays and meta")
    if manifest["format"] != FORMAT:
        raise store.StoreError(f"its format is {manifest['format']!r}, this npae reads {FORMAT!r}")
    found = {name: _entry(name, array) for name, array in arrays.items()}
    if found != manifest["arrays"]:
        names = sorted(set(found) ^ set(manifest["arrays"])) or [n for n in found if found[n] != manifest["arrays"][n]]
        raise store.StoreError(f"its tensors and its manifest differ in {names[:3]}")
    return manifest["meta"]


def _entry(name: str, array: np.ndarray) -> dict[str, Any]:
    row = store.storable(name, array)  # the library writes the bytes that stand at the address of the first number
    return {"shape": list(row.shape), "dtype": row.dtype.str, "sha256": _sha256(row.data)}


def _sha256(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def _library() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise ValueError("safetensors files need the library safetensors: pip install 'npae[interop]', or save as "
                         ".npz") from None
    return safetensors
