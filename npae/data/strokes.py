"""Generated handwritten digits: MNIST's shape and look from a seed, so that everything can be tried without a download.
A random pen follows one of several skeletons per class, and every picture comes with the factors that made it.
"""

import warnings
from pathlib import Path

import numpy as np

from npae import store
from npae.cache import cache_dir
from npae.data import skeletons

VERSION = 1  # of the pictures: raise it with every change of a bit in them, and old cache files are left alone
BLOCK = 100  # pictures that share a random stream: ten of each class, shuffled
SIDE = 28
TRAIN, TEST = 12_000, 2_000  # pictures, unless another number is asked for
REACH = 4  # a pixel further than this from a piece of the curve, along x or y, is not touched by it
MARGIN = REACH + 2  # room around the picture, so that a window never leaves the array
KEYS = ("train_pictures", "train_labels", "test_pictures", "test_labels")

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
FACTORS = np.dtype(
    [("skeleton", np.uint8)]
    + [(name, np.float64) for name in ("slant", "rotation", "scale", "aspect", "shift_x", "shift_y")]
    + [(name, np.float64) for name in ("width", "roundness", "wobble")],
    align=True,
)


def generate(n: int, seed: int, *, stream: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw n digits; picture i depends on (seed, stream, i) alone, so that a longer set begins with the shorter one.

    Shapes: pictures (n, 28, 28) uint8, white on black; labels (n,) uint8; factors (n,) structured, with the fields
        skeleton   which of the label's skeletons, 0, 1, ... (names in `skeletons.SKELETONS`)
        slant      shear to the right, as a tangent: x grows by `slant` pixels for each pixel upwards
        rotation   degrees, clockwise, after the shear
        scale      longest side of the written digit over 20 pixels
        aspect     factor on the skeleton's breadth, before slant and rotation
        shift_x    pixels by which the line's centre of mass lies to the right of pixel (14, 14), where MNIST has it
        shift_y    the same, downwards
        width      mean thickness of the line, pixels
        roundness  0 keeps the skeleton's corners, 1 rounds them off
        wobble     how far control points go astray, pixels of the skeleton (standard deviation); the tremor of the
                   line and the warp of the paper are in proportion to it
    Raises: ValueError for a negative n or seed.

    >>> pictures, labels, factors = generate(3, seed=1)
    >>> pictures.shape, pictures.dtype, len(factors["slant"])
    ((3, 28, 28), dtype('uint8'), 3)
    """
    if not (_whole(n) and _whole(seed)):
        raise ValueError(f"strokes.generate got n = {n} and seed = {seed}: give two integers that are 0 or more")
    pictures = np.empty((n, SIDE, SIDE), np.uint8)
    labels = np.empty(n, np.uint8)
    factors = np.empty(n, FACTORS)
    for block, first in enumerate(range(0, n, BLOCK)):
        # A block is always drawn whole and cut afterwards: a picture must not depend on where n ends.
        rng = _stream(seed, stream, block)
        here = slice(first, min(first + BLOCK, n))
        for all_of_them, some in zip((pictures, labels, factors), _block(rng), strict=True):
            all_of_them[here] = some[: here.stop - first]
    return pictures, labels, factors


def factors(n: int, seed: int, *, stream: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The labels and factors of `generate(n, seed, stream=stream)`, without drawing the pictures.

    Those of the test pictures of `load()` are factors(TEST, 0, stream=1).
    Shapes, Raises: as for `generate`.

    >>> labels, slant = factors(3, seed=1)[0], factors(3, seed=1)[1]["slant"]
    >>> bool((labels == generate(3, seed=1)[1]).all()), slant.shape
    (True, (3,))
    """
    if not (_whole(n) and _whole(seed)):
        raise ValueError(f"strokes.factors got n = {n} and seed = {seed}: give two integers that are 0 or more")
    blocks = [_begin(_stream(seed, stream, block)) for block in range(-(-n // BLOCK))]
    if not blocks:
        return np.empty(0, np.uint8), np.empty(0, FACTORS)
    labels, drawn = (np.concatenate(parts)[:n] for parts in zip(*blocks, strict=True))
    return labels, drawn


def cache_file(train: int = TRAIN, test: int = TEST, seed: int = 0) -> Path:
    """The cache file of these pictures, which need not exist."""
    return cache_dir() / f"strokes-v{VERSION}-seed{seed}-{train}-{test}.npz"


def load(train: int = TRAIN, test: int = TEST, seed: int = 0, cache: bool = True) -> Split:
    """Give (train_pictures, train_labels, test_pictures, test_labels); drawn once and kept in the cache folder.

    train = generate(train, seed, stream=0), test = generate(test, seed, stream=1), without the factors
    Shapes: as for `generate`.
    Raises: ValueError for a negative size or seed; never for the cache, whose pictures can always be drawn again.
    """
    kept = _read(train, test, seed) if cache else None
    if kept is not None:
        return kept
    drawn = (*generate(train, seed, stream=0)[:2], *generate(test, seed, stream=1)[:2])
    if cache:
        _keep(drawn, train, test, seed)
    return drawn


def _read(train: int, test: int, seed: int) -> Split | None:
    """The pictures from the cache, or None where there is no such file, or one that is damaged."""
    try:
        with open(cache_file(train, test, seed), "rb") as file, np.load(file, allow_pickle=False) as arrays:
            a, b, c, d = (arrays[key] for key in KEYS)
    except Exception:  # A damaged zip raises nearly anything, and no kind of it is worth more than drawing again.
        return None
    shapes = (a.shape, b.shape, c.shape, d.shape) == ((train, SIDE, SIDE), (train,), (test, SIDE, SIDE), (test,))
    return (a, b, c, d) if shapes and {x.dtype for x in (a, b, c, d)} == {np.dtype(np.uint8)} else None


def _keep(drawn: Split, train: int, test: int, seed: int) -> None:
    """Keep the pictures in the cache folder; where that cannot be done, say so and go on."""
    try:
        path = cache_file(train, test, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        store.remove_orphans(path.parent)
        with store.atomic(path) as file:
            a, b, c, d = drawn
            np.savez(file, train_pictures=a, train_labels=b, test_pictures=c, test_labels=d)
    except (OSError, ValueError) as error:
        warnings.warn(f"the generated digits could not be kept, and are drawn again next time: {error}", stacklevel=3)


def _whole(n: object) -> bool:
    return isinstance(n, int | np.integer) and not isinstance(n, bool) and bool(n >= 0)


def _stream(seed: int, stream: int, block: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, block)))


def _begin(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn first of a block: labels and factors."""
    # Only `random` and `standard_normal` are called anywhere here: NumPy changes their streams least of all.
    labels = (np.argsort(rng.random(BLOCK)) % 10).astype(np.uint8)
    return labels, _draw_factors(rng, labels)


def _block(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, factors = _begin(rng)
    curve, pen = _curves(rng, labels, factors)
    half = _half_widths(rng, factors["width"])
    curve = _place(curve, half, pen, factors)
    return _render(rng, curve, half, pen), labels, factors


def _draw_factors(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """What is chosen once for a picture. The spreads are set so that the pictures look like MNIST's."""
    table = skeletons.table()
    factors = np.empty(len(labels), FACTORS)
    chance = rng.random(len(labels))
    for digit in range(10):
        share = np.cumsum(table.weight[table.start[digit] : table.start[digit + 1]])
        mine = labels == digit
        factors["skeleton"][mine] = np.searchsorted(share, chance[mine] * share[-1], side="right")

    def normal(mean: float, spread: float, low: float, high: float) -> np.ndarray:
        return np.clip(mean + spread * rng.standard_normal(len(labels)), low, high)

    factors["slant"] = normal(0.17, 0.23, -0.5, 0.9)
    factors["rotation"] = normal(0.0, 5.0, -18.0, 18.0)
    factors["scale"] = normal(0.96, 0.025, 0.86, 1.02)
    factors["aspect"] = np.exp(normal(0.05, 0.16, -0.45, 0.45))
    factors["shift_x"] = normal(0.0, 0.35, -1.0, 1.0)
    factors["shift_y"] = normal(0.0, 0.35, -1.0, 1.0)
    factors["width"] = np.exp(normal(np.log(2.55), 0.28, np.log(1.6), np.log(4.4)))
    factors["roundness"] = rng.random(len(labels)) ** 1.2
    sloppy = rng.random(len(labels)) < 0.08
    factors["wobble"] = np.exp(normal(np.log(0.55), 0.3, np.log(0.25), np.log(1.3))) * np.where(sloppy, 1.7, 1.0)
    return factors


def _curves(rng: np.random.Generator, labels: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pen's way (n, SAMPLES, 2) in skeleton pixels, y downwards, and where the pen is down (n, SAMPLES - 1)."""
    from scipy.ndimage import gaussian_filter1d

    table = skeletons.table()
    which = table.start[labels] + factors["skeleton"]
    wobble, round_ = factors["wobble"][:, None, None], factors["roundness"][:, None, None]
    controls = table.controls[which]
    controls = controls + wobble * rng.standard_normal(controls.shape)
    matrix = (1 - round_) * table.sharp[which] + round_ * table.soft[which]
    curve = matrix @ controls
    # A hand trembles slowly: white noise along the line, smoothed over a few samples (which leaves a quarter of it).
    tremor = gaussian_filter1d(rng.standard_normal(curve.shape), 4.5, axis=1)
    curve = curve + wobble * tremor + _warp(rng, curve, 1.1 * wobble)
    aspect, slant, turn = factors["aspect"], factors["slant"], np.deg2rad(factors["rotation"])
    x, y = (curve - 10.0).transpose(2, 0, 1)
    x = aspect[:, None] * x - slant[:, None] * y
    c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
    return np.stack([c * x - s * y, s * x + c * y], -1), table.pen[which]


def _warp(rng: np.random.Generator, curve: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """A smooth displacement of the paper, so that strokes which meet still meet: two random waves for x, two for y."""
    n = len(curve)
    direction = (2 * rng.random((n, 2, 4)) - 1) * (2 * np.pi / 22)  # waves of 22 pixels or longer along x and y
    phase = 2 * np.pi * rng.random((n, 1, 4))
    waves = amount * np.sin(curve @ direction + phase)
    return waves[..., :2] + waves[..., 2:]


def _half_widths(rng: np.random.Generator, width: np.ndarray) -> np.ndarray:
    """Half the thickness of the line at every sample (n, SAMPLES): the pressure of the pen changes slowly."""
    from scipy.ndimage import gaussian_filter1d

    pressure = gaussian_filter1d(rng.standard_normal((len(width), skeletons.SAMPLES)), 4.0, axis=1)
    return width[:, None] / 2 * np.exp(np.clip(0.35 * pressure, -0.3, 0.2))


def _place(curve: np.ndarray, half: np.ndarray, pen: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Fit the line into a box of 20 · scale pixels, and its centre of mass to the picture's centre plus the shift."""
    low, high = curve.min(1), curve.max(1)
    room = 20.0 * factors["scale"] - 2 * half.mean(1)
    curve = curve * (room / (high - low).max(1))[:, None, None]
    length = pen * np.linalg.norm(np.diff(curve, axis=1), axis=2)
    # Ink that lies on ink counts once: a sample's ink (piece times width) is divided by how many widths of line there
    # are around it (a triangular kernel), which also gives the round ends of a stroke, where there are few, their due.
    share = np.pad(length, ((0, 0), (1, 0))) + np.pad(length, ((0, 0), (0, 1)))
    dx, dy = (a[:, :, None] - a[:, None, :] for a in (curve[..., 0], curve[..., 1]))
    crowd = np.maximum(0, 1 - np.sqrt(dx * dx + dy * dy) / (2 * half)[:, :, None]) @ share[..., None]
    mass = half * share * half / crowd[..., 0]
    centre = (mass[..., None] * curve).sum(1) / mass.sum(1)[:, None]
    shift = np.stack([factors["shift_x"], factors["shift_y"]], -1)
    return curve + (SIDE / 2 - centre + shift)[:, None]


def _render(rng: np.random.Generator, curve: np.ndarray, half: np.ndarray, pen: np.ndarray) -> np.ndarray:
    """Ink of the line as uint8 (n, 28, 28); pixel (row, column) has its centre at y = row, x = column.

    grey = 255 · step(max over pieces of (half width - distance to the piece) + roughness of the paper)
    """
    from scipy.ndimage import gaussian_filter

    n, size = len(curve), SIDE + 2 * MARGIN
    # Everything before this line is rounded to 1/1024 pixel, everything after it is + - * / and sqrt in float32, which
    # are exact to the last bit everywhere: another machine's sin or exp does not change a picture.
    curve, half = (np.rint(a * 1024).astype(np.float32) / np.float32(1024) for a in (curve, half))
    rough = gaussian_filter(rng.standard_normal((n, SIDE, SIDE)), (0, 0.7, 0.7), mode="nearest")
    rough = np.rint(rough * 1024).astype(np.float32) / np.float32(1024)
    depth = np.full((n, size * size), -9, np.float32)
    for i in range(n):
        _stamp(depth[i], curve[i, :-1], np.where(pen[i, :, None], curve[i, 1:], curve[i, :-1]), half[i, :-1])
    inner = slice(MARGIN, MARGIN + SIDE)
    depth = depth.reshape(n, size, size)[:, inner, inner]
    ink = np.clip((depth + np.float32(0.36) * rough) / np.float32(1.15) + np.float32(0.5), 0, 1)
    return np.rint(255 * ink).astype(np.uint8)


def _stamp(depth: np.ndarray, start: np.ndarray, end: np.ndarray, half: np.ndarray) -> None:
    """Raise depth (size²,) to half width - distance in a small window around each piece start → end (m, 2)."""
    # Axes: row and column in the window, then the piece, last because NumPy is quick along a long last axis.
    size, offset = SIDE + 2 * MARGIN, np.arange(-REACH, REACH + 1)[:, None]
    corner = np.clip(np.rint((start + end) / 2).astype(np.intp), -2, SIDE + 1)
    column, row = corner[:, 0] + offset, (corner[:, 1] + offset)[:, None]
    px, py = column.astype(np.float32) - start[:, 0], row.astype(np.float32) - start[:, 1]
    vx, vy = (end - start).T
    t = (px * vx + py * vy) / np.maximum(vx * vx + vy * vy, np.float32(1e-6))
    t = np.minimum(np.maximum(t, 0), 1)
    ex, ey = px - t * vx, py - t * vy
    inside = half - np.sqrt(ex * ex + ey * ey)
    index = (row + MARGIN) * size + (column + MARGIN)
    np.maximum.at(depth, index.ravel(), inside.ravel())
