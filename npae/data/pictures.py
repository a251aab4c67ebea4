"""Pictures of one's own, from a path: a folder of IDX files, a `.npy`, or a `.npz` such as Keras' mnist.npz.
Files are read without pickle, and what their headers claim is compared with their size before memory is taken.
"""
import math
import os
import re
import zipfile
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np

from npae import store
from npae.data import idx

Part = np.ndarray | None
NPZ_NAMES = (("x_train", "y_train", "x_test", "y_test"), ("train_x", "train_y", "test_x", "test_y"))
BROKEN = (*store.DAMAGE, KeyError, SyntaxError, TokenError)  # the last two: NumPy's reading of a damaged header


class PictureError(ValueError):
    """A path does not lead to pictures that npae can use."""


def load(path: str | Path) -> tuple[np.ndarray, Part, np.ndarray, Part]:
    """(train pictures, train labels, test pictures, test labels); labels are None where there are none.

    A folder of IDX files has `train-images*` and, as it likes, `train-labels*`, `t10k-images*` or `test-images*`,
    `t10k-labels*` or `test-labels*` (a prefix such as `emnist-letters-` may precede). A `.npy` is an array of pictures.
    A `.npz` has x_train and, as it likes, y_train, x_test and y_test; or train_x, ...; or one array of any name.
    Pictures are uint8, or floats in [0, 1], which become round(255 x) (halves to the even grey).
    Where there are no test pictures, the last sixth of the pictures is set aside for the test.

    Shapes: pictures (N, H, W) or (N, H, W, C) -> (N, H, W, C) uint8; labels (N,) as they are in the file.
    Raises: PictureError with what is wrong, the path, and what to do.
    """
    path = Path(path)
    if path.is_dir():
        parts = _from_folder(path)
    elif path.suffix in (".npy", ".npz") and path.is_file():
        parts = _from_npy(path) if path.suffix == ".npy" else _from_npz(path)
    else:
        raise PictureError(f"{path} is neither a folder of IDX files nor a .npy or .npz file that is there")
    train_x, train_y, test_x, test_y = parts
    if train_x is None or (test_x is None and test_y is not None):
        raise PictureError(f"{path} has labels without their pictures")
    train_x = to_pictures(train_x, str(path))
    if test_x is not None:
        return train_x, train_y, to_pictures(test_x, str(path)), test_y
    first = len(train_x) - max(1, len(train_x) // 6)
    if first < 1:
        raise PictureError(f"{path} has 1 picture: at least 2 are needed, one to train and one to test")
    if train_y is not None and len(train_y) != len(train_x):
        raise PictureError(f"{path} has {len(train_x)} pictures and {len(train_y)} labels")
    train_y, test_y = (None, None) if train_y is None else (train_y[:first], train_y[first:])
    return train_x[:first], train_y, train_x[first:], test_y


def to_pictures(array: np.ndarray, where: str) -> np.ndarray:
    """Pictures as (N, H, W, C) uint8: uint8 as it is, floats in [0, 1] as round(255 x)."""
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise PictureError(f"{where}: pictures have the shape (N, H, W) or (N, H, W, C), got {array.shape}")
    if array.dtype.kind == "f":
        # NaN fails both comparisons
        if not (array.min() >= 0 and array.max() <= 1):
            raise PictureError(f"{where}: pictures of floats lie in [0, 1], got {array.min()} to {array.max()}")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise PictureError(f"{where}: pictures are uint8 or floats in [0, 1], got {array.dtype}: convert them")
    return array[..., None] if array.ndim == 3 else array


def _from_folder(folder: Path) -> list[Part]:
    parts: list[Part] = []
    for pattern in ("train-images", "train-labels", "(t10k|test)-images", "(t10k|test)-labels"):
        files = sorted(file for file in folder.iterdir() if re.search(pattern, file.name) and file.is_file())
        if len(files) > 1:
            raise PictureError(f"{folder} has both {files[0].name} and {files[1].name}: leave one of them")
        parts.append(idx.read_idx(files[0]) if files else None)
    if parts[0] is None:
        raise PictureError(f"{folder} has no IDX file called train-images*")
    return parts


def _from_npy(path: Path) -> list[Part]:
    with open(path, "rb") as file:
        return [_read_npy(file, os.fstat(file.fileno()).st_size, str(path)), None, None, None]


def _from_npz(path: Path) -> list[Part]:
    try:
        with zipfile.ZipFile(path) as archive:
            return _from_archive(archive, str(path))
    except PictureError:
        raise
    except BROKEN as error:
        raise PictureError(f"{path} is not a whole .npz file: {error}") from error


def _from_archive(archive: zipfile.ZipFile, where: str) -> list[Part]:
    sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
    keys = next((keys for keys in NPZ_NAMES if keys[0] in sizes), tuple(sizes)[:1])
    if not keys or not set(sizes) <= set(keys) or len(sizes) < len(archive.infolist()):
        raise PictureError(f"{where} has the arrays {', '.join(archive.namelist()) or 'none'}: expected one array, "
                           "or x_train and, as it likes, y_train, x_test and y_test")
    parts: list[Part] = [None] * 4
    for i, key in enumerate(keys):
        if key in sizes:
            with archive.open(f"{key}.npy") as member:
                parts[i] = _read_npy(member, sizes[key], f"{where}, {key}")
    return parts


def _read_npy(file: IO[bytes], size: int, where: str) -> np.ndarray:
    """The array of an open .npy stream of `size` bytes; a header that claims another size is refused first."""
    try:
        if (version := np.lib.format.read_magic(file)) != (1, 0):  # later ones are for headers over 64 kB: no pictures
            raise ValueError(f"version {version} is not for plain arrays")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except BROKEN as error:
        raise PictureError(f"{where} is not a whole .npy file: {error}") from error
    if dtype.kind not in "biufc":
        raise PictureError(f"{where} holds {dtype}, and only numbers are read: save them as an array of uint8")
    n = math.prod(shape) * dtype.itemsize  # Python integers: no product wraps
    if n != size - file.tell() or n > idx.MAX_BYTES or min(shape, default=1) < 0:
        raise PictureError(f"{where} claims the shape {shape} of {dtype}, {n} bytes, and has {size - file.tell()} "
                           f"(at most {idx.MAX_BYTES} are read)")
    data = store.read_bytes(file.read, n)
    if len(data) < n:
        raise PictureError(f"{where} ends after {len(data)} of {n} bytes")
    return data.view(dtype).reshape(shape, order="F" if fortran else "C")
