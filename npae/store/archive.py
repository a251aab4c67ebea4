"""Named arrays and a JSON-like meta in one `.npz`, with a manifest and digests."""
import hashlib
import json
import math
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from npae.store.errors import CheckpointError, StoreError
from npae.store.exact_json import check_json, from_json
from npae.store.files import atomic, read_bytes

FORMAT = "npae store 1"
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 64 << 20  # bytes
ARRAY_NAME = re.compile(r"[A-Za-z0-9_]+([.\-][A-Za-z0-9_]+)*")  # no slash, no "..", nothing absolute
DTYPES = {code: np.dtype(code) for code in ("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8",
                                            "<f2", "<f4", "<f8", "<c8", "<c16")}
# what zipfile lets out on damaged bytes (NotImplementedError, a RuntimeError, among them)
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)


def write(path: str | Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write named arrays and a JSON-like `meta` to one file: after a crash the path holds the old file or the new one.

    Equal content gives equal bytes. Arrays are stored in C order, little-endian and uncompressed; lists, strings,
    numbers, booleans and None are what `meta` may hold (a tuple comes back as a list).

    Raises: StoreError for a dtype or a name that cannot be stored, or a `meta` that JSON cannot hold exactly.
    """
    rows = {name: storable(name, array) for name, array in arrays.items()}
    table = {name: {"shape": list(row.shape), "dtype": row.dtype.str, "sha256": hashlib.sha256(row.data).hexdigest()}
             for name, row in rows.items()}
    check_json(meta, "meta")
    manifest = json.dumps({"format": FORMAT, "arrays": table, "meta": meta}).encode()
    if len(manifest) > MANIFEST_LIMIT:
        raise StoreError(f"the manifest has {len(manifest)} bytes, more than {MANIFEST_LIMIT}: put numbers into arrays")
    with atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, MANIFEST, [manifest])
        for name, row in rows.items():
            _add(archive, name + ".npy", [_npy_header(row.dtype, row.shape), row.data])


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the meta of a file that `write` wrote; every digest is compared.

    Raises: CheckpointError for anything else, before memory for it is taken; OSError where the file cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, os.fstat(file.fileno()).st_size)
        except StoreError as error:
            raise CheckpointError(f"{path} is refused: {error}") from None
        except DAMAGE as error:
            raise CheckpointError(f"{path} is not a whole npae file: {error}") from error


def storable(name: str, array: np.ndarray) -> np.ndarray:
    """The array in C order and little-endian.

    Raises: StoreError for a dtype, or a name, that is never stored.
    """
    if not ARRAY_NAME.fullmatch(name):
        raise StoreError(f"array name {name!r}: expected letters, digits and _, joined by single dots or hyphens")
    array = np.asarray(array)
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in DTYPES:
        raise StoreError(f"array {name!r} has dtype {array.dtype}: only bool, int, float and complex arrays are stored")
    return np.asarray(array, dtype=DTYPES[dtype.str], order="C")


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The header of a `.npy` file, version 1.0; our own, so that no NumPy release changes the bytes of a file."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"  # the numbers begin at a multiple of 64 bytes
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def _add(archive: zipfile.ZipFile, name: str, pieces: list[Any]) -> None:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # the same on every system
    info.external_attr = 0o644 << 16
    info.file_size = sum(memoryview(piece).nbytes for piece in pieces)  # tells zipfile whether it needs zip64
    with archive.open(info, "w") as member:
        for piece in pieces:
            member.write(piece)


def _read_archive(archive: zipfile.ZipFile, total: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise StoreError("it has two members of one name")
    if sum(member.file_size for member in members) > total:  # compressed, or members that overlap
        raise StoreError(f"its members claim more bytes than the {total} of the file")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise StoreError("it has compressed members, and none is written so")
    if MANIFEST not in names or archive.getinfo(MANIFEST).file_size > MANIFEST_LIMIT:
        raise StoreError(f"it has no {MANIFEST}, or too long a one")
    manifest = from_json(archive.read(MANIFEST))
    keys = {"format": str, "arrays": dict, "meta": dict}
    if not (isinstance(manifest, dict) and set(manifest) == set(keys) and manifest["format"] == FORMAT
            and all(isinstance(manifest[key], kind) for key, kind in keys.items())):
        raise StoreError(f"its manifest is not that of '{FORMAT}'")
    expected = {MANIFEST} | {name + ".npy" for name in manifest["arrays"]}
    if set(names) != expected:
        raise StoreError(f"its members and its manifest differ in {sorted(set(names) ^ expected)[:3]}")
    return {name: _read_array(archive, name, entry) for name, entry in manifest["arrays"].items()}, manifest["meta"]


def _read_array(archive: zipfile.ZipFile, name: str, entry: Any) -> np.ndarray:
    """One array: the manifest says which bytes its header must be, so nothing of the header is parsed."""
    if not (ARRAY_NAME.fullmatch(name) and isinstance(entry, dict) and set(entry) == {"shape", "dtype", "sha256"}):
        raise StoreError(f"its manifest has no proper entry for {name!r}")
    shape, dtype = entry["shape"], DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise StoreError(f"array {name!r} has dtype {entry['dtype']!r}, which is never stored")
    if not isinstance(shape, list) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise StoreError(f"array {name!r} has shape {shape!r}")
    header = _npy_header(dtype, tuple(shape))
    size, claimed = len(header) + math.prod(shape) * dtype.itemsize, archive.getinfo(name + ".npy").file_size
    if size != claimed:  # Python integers: no product wraps; and nothing has been allocated yet
        raise StoreError(f"array {name!r} of shape {tuple(shape)} needs {size} bytes, its member has {claimed}")
    digest = hashlib.sha256()
    with archive.open(name + ".npy") as member:
        if member.read(len(header)) != header:
            raise StoreError(f"array {name!r} has a header that differs from the manifest's shape {tuple(shape)}")
        numbers = read_bytes(member.read, size - len(header), digest)
    if digest.hexdigest() != entry["sha256"]:
        raise StoreError(f"array {name!r} has SHA-256 {digest.hexdigest()}, its manifest says {entry['sha256']}")
    return numbers.view(dtype).reshape(shape)
