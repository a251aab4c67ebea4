"""Strict reading and writing of arrays and JSON in one `.npz`: no pickle, a manifest with digests, atomic replacement.
Plain `np.load` opens such a file too; here a file is either exactly what was written, or it is refused.
"""
import hashlib
import json
import math
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

FORMAT = "npae store 1"
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 64 << 20  # bytes
ARRAY_NAME = re.compile(r"[A-Za-z0-9_]+([.\-][A-Za-z0-9_]+)*")  # no slash, no "..", nothing absolute
DTYPES = {code: np.dtype(code) for code in ("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8",
                                            "<f2", "<f4", "<f8", "<c8", "<c16")}
CHUNK = 1 << 20
# what zipfile lets out on damaged bytes (NotImplementedError, a RuntimeError, among them)
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)


class StoreError(ValueError):
    """A file, or what is to go into one, is not what this module writes."""


def write(path: str | Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write named arrays and a JSON-like `meta` to one file: after a crash the path holds the old file or the new one.

    Equal content gives equal bytes. Arrays are stored in C order, little-endian and uncompressed; lists, strings,
    numbers, booleans and None are what `meta` may hold (a tuple comes back as a list).

    Raises: StoreError for a dtype or a name that cannot be stored, or a `meta` that JSON cannot hold exactly.
    """
    rows = {name: _storable(name, array) for name, array in arrays.items()}
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

    Raises: StoreError for anything else, before memory for it is taken; OSError where the file cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, os.fstat(file.fileno()).st_size)
        except StoreError as error:
            raise StoreError(f"{path} is refused: {error}") from None
        except DAMAGE as error:
            raise StoreError(f"{path} is not a whole npae file: {error}") from error


@contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A temporary file, opened for reading and writing, that takes the place of `path` when the block ends well.

    Order: write, fsync the file, replace, fsync the folder. When anything fails, `path` is what it was and the
    temporary file is gone. A symbolic link stays, and what it points to is replaced.
    """
    target = Path(os.path.realpath(path))
    # short, because a folder's longest name is 255 characters; the pid lets `remove_orphans` see whose it is
    temporary = target.with_name(f".npae-{os.getpid()}-{secrets.token_hex(8)}.tmp")
    try:
        file = open(temporary, "x+b")  # noqa: SIM115
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no folder {target.parent} for {target.name}: make it, or write to another "
                                "place") from None
    except OSError as error:
        error.filename = str(target)  # what the caller asked for
        raise
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_orphans(folder: str | Path) -> list[Path]:
    """Remove the temporary files that dead processes of this machine left in a folder; returns their paths."""
    orphans = []
    for path in sorted(Path(folder).glob(".npae-*-*.tmp")):
        pid = path.name.split("-")[1]
        if pid.isdecimal() and not _alive(int(pid)):
            path.unlink(missing_ok=True)
            orphans.append(path)
    return orphans


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with atomic(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, obj: Any) -> None:
    """Write a JSON file atomically, indented; StoreError for what JSON cannot hold exactly (NaN, keys of numbers)."""
    check_json(obj, "the object")
    write_text(path, json.dumps(obj, indent=2) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file strictly: StoreError for anything that is not JSON, NaN and doubled keys included."""
    data = Path(path).read_bytes()
    try:
        return _from_json(data)
    except StoreError as error:
        raise StoreError(f"{path} is refused: {error}") from None


def read_bytes(read: Callable[[int], bytes], n: int, digest: Any = None) -> np.ndarray:
    """The next n bytes of a stream as a uint8 array, shorter where the stream ends first; they go into `digest` too."""
    array = np.empty(n, np.uint8)
    done = 0
    while done < n and (piece := read(min(CHUNK, n - done))):
        array[done:done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
        if digest is not None:
            digest.update(piece)
    return array[:done]


# -- arrays as members of a zip file --


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    """The array in C order and little-endian."""
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
    if MANIFEST not in names or archive.getinfo(MANIFEST).file_size > MANIFEST_LIMIT:
        raise StoreError(f"it has no {MANIFEST}, or too long a one")
    manifest = _from_json(archive.read(MANIFEST))
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


# -- JSON, exactly --


def check_json(obj: Any, where: str) -> None:
    """Refuse what `json` would change on the way (keys that are numbers) or cannot hold (NaN, NumPy scalars)."""
    if isinstance(obj, dict):
        for key, value in obj.items():
            if not isinstance(key, str):
                raise StoreError(f"{where} has the key {key!r}, and keys must be strings")
            check_json(value, f"{where}[{key!r}]")
    elif isinstance(obj, list | tuple):
        for i, value in enumerate(obj):
            check_json(value, f"{where}[{i}]")
    elif not (obj is None or type(obj) in (bool, int, str) or (isinstance(obj, float) and math.isfinite(obj))):
        raise StoreError(f"{where} is {type(obj).__name__} {str(obj)[:40]!r}, which JSON cannot hold: "
                         "use str, int, bool, None or a finite float")


def _from_json(data: bytes) -> Any:
    try:
        return json.loads(data.decode(), object_pairs_hook=_no_doubles, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"its JSON is not readable: {error}") from None


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("an object has one key twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _alive(pid: int) -> bool:
    """Whether a process runs; where that cannot be asked without harm (signal 0 ends a process on Windows), yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
