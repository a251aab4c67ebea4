"""IDX, the format of MNIST: a magic number, the dimensions, the numbers; gzipped or not, whatever the file is called.
The reader takes nothing on trust: a file is exactly what its header says, or it is refused with a sentence.
"""
import gzip
import hashlib
import math
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from npae import store

# the third byte of the magic number says which kind of number follows, big-endian
TYPES = {code: np.dtype(name) for code, name in
         {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}.items()}
MAX_BYTES = 1 << 31  # of numbers in one file; MNIST's largest has 47 million


class IDXError(ValueError):
    """A file is not a whole IDX file, or an array is none that IDX can hold."""


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an IDX file of 1 to 4 dimensions, in the machine's byte order.

    Raises: IDXError where the file is not IDX, is truncated, goes on after its last number, or has an empty dimension;
    OSError where it cannot be opened.
    """
    with open(path, "rb") as file:
        return parse(file, str(path))[0]


def parse(file: IO[bytes], name: str) -> tuple[np.ndarray, str]:
    """The array in an open file, and the SHA-256 of its uncompressed content, taken while it is read.

    The content's digest names the data; that of a `.gz` depends on who compressed it.
    """
    most = file.seek(0, os.SEEK_END)
    read: Callable[[int], bytes] = file.read
    file.seek(0)
    if file.read(2) == b"\x1f\x8b":
        most *= 1032  # deflate shrinks no further, so a short file cannot claim a large array
        read = _Member(file).read
    file.seek(0)
    digest = hashlib.sha256()
    try:
        return _parse(read, digest, min(most, MAX_BYTES)), digest.hexdigest()
    except zlib.error as error:
        raise IDXError(f"{name} is a damaged gzip file: {error}") from None
    except IDXError as error:
        raise IDXError(f"{name} is not a whole IDX file: {error}") from None


def write_idx(path: str | Path, array: np.ndarray) -> None:
    """Write an array as IDX, gzipped where the name ends in `.gz`; equal arrays give equal bytes.

    Raises: IDXError for a dtype or a shape that IDX does not have.
    """
    array = np.asarray(array)
    codes = {dtype.newbyteorder("="): code for code, dtype in TYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        raise IDXError(f"IDX holds uint8, int8, int16, int32, float32 or float64, got {array.dtype}")
    if not 1 <= array.ndim <= 4 or 0 in array.shape:
        raise IDXError(f"IDX arrays here have 1 to 4 dimensions, none empty, got shape {array.shape}")
    dims = b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = bytes([0, 0, code, array.ndim]) + dims + array.astype(TYPES[code]).tobytes()
    with store.atomic(path) as file:
        file.write(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def _parse(read: Callable[[int], bytes], digest: Any, most: int) -> np.ndarray:
    """Read the header, see that it claims at most `most` bytes, read exactly those; nothing may follow."""
    magic = _header(read, 4)
    if magic[:2] != b"\0\0" or magic[2] not in TYPES:
        raise IDXError(f"it starts with {magic!r}, not with a magic number (is it a web page saved under this name?)")
    if not 1 <= magic[3] <= 4:
        raise IDXError(f"it has {magic[3]} dimensions, expected 1 to 4")
    dims = _header(read, 4 * magic[3])
    shape = tuple(int.from_bytes(dims[i:i + 4], "big") for i in range(0, len(dims), 4))
    dtype = TYPES[magic[2]]
    n = math.prod(shape) * dtype.itemsize  # Python integers: no product wraps
    if not 0 < n <= most:
        raise IDXError(f"its header claims shape {shape}, {n} bytes, where 1 to {most} are possible")
    digest.update(magic + dims)
    array = store.read_bytes(read, n, digest)
    if len(array) < n:
        raise IDXError(f"it ends after {len(array)} of the {n} bytes of shape {shape}")
    if read(1):
        raise IDXError(f"it goes on after the {n} bytes of shape {shape}")
    numbers = array.view(dtype)
    if sys.byteorder == "little" and dtype.itemsize > 1:
        numbers = numbers.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return numbers.reshape(shape)


def _header(read: Callable[[int], bytes], n: int) -> bytes:
    data = store.read_bytes(read, n).tobytes()
    if len(data) < n:
        raise IDXError("it ends within its header")
    return data


class _Member:
    """The content of a gzip file of one member, read piece by piece; nothing may follow that member.

    `gzip.open` would join further members to the first, and skip zeros behind it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.inflate = zlib.decompressobj(wbits=31)  # 31: gzip's header and CRC, window of 2^15

    def read(self, n: int) -> bytes:
        """Between 1 and n bytes, or none at the end; zlib.error where they or the CRC are wrong."""
        while not self.inflate.eof:
            data = self.inflate.unconsumed_tail or self.file.read(store.CHUNK)
            if not data:
                raise IDXError("its gzip stream is truncated")
            if piece := self.inflate.decompress(data, n):
                return piece
        if self.inflate.unused_data or self.file.read(1):
            raise IDXError("something follows its gzip stream")
        return b""
