"""The pen skeletons of the generated digits: for every class the ways in which people write it.
A skeleton becomes one matrix, so that moving its control points moves the whole curve in a single product.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

SAMPLES = 48  # points along the pen's way through one digit, whose pieces are about a pixel long, or shorter

# (name, how often, way of the pen). Coordinates are pixels of MNIST's 20 × 20 box, x to the right and y downwards, of a
# digit that stands upright. A curve runs smoothly through its points; * makes a corner, | lifts the pen.
SKELETONS: dict[int, tuple[tuple[str, float, str], ...]] = {
    0: (
        ("oval", 4, "11,1 3.8,9 10,19 16.5,10 11,1 8,2"),
        ("round", 4, "10,1.5 1.5,10 10,18.5 18.5,10 10,1.5 7.5,2.2"),
        ("narrow", 1.5, "10.5,1 6,10 10,19 14.3,10 10.5,1 9,2"),
        ("hook", 2, "13,4.5 10.5,1.5 3.8,10 10,19 16.5,9 12,2 8.5,4"),
        ("open", 1, "9,1.5 3.3,11 10.5,19 16.8,9.5 12,1.8"),
        ("tilted", 2, "14,1.5 3.5,9.5 6,18.3 15.5,12 14,1.5 11,2"),
        ("right start", 1, "15,3.5 15.5,13.5 9.5,19 3.7,10 10,1.2 16,5.5"),
    ),
    1: (
        ("stroke", 10, "10,1 10,19"),
        ("bow", 2, "10.7,1 8.9,10 10.5,19"),
        ("flag", 1, "6.5,5.5 10.5,1* 10.3,19"),
        ("foot", 0.5, "6.5,5 10.5,1* 10.3,19 | 5,18.8 16,18.8"),
    ),
    2: (
        ("plain", 4, "4,5 7,1.8 12,1.5 14.5,5 12.5,10 8.5,14.5 4,18.5* 10,18.3 17,18.2"),
        ("loop", 4, "4,5 8,1.5 13,2 14.5,6 12,11 7,16.5 4,18.5 2.8,16.8 5,15 9,17 13,18.8 17.5,17.5"),
        ("wide loop", 2, "5,4 9,1.2 13.5,2.5 13.8,7 10,13 5.5,18 2.5,18 2.5,15 6,14 10,16 14,18.5 18.5,18"),
        ("zed", 2, "4,3.2 9,1.8 14.5,2.2* 9.5,10 4,18.2* 10,18.2 16.5,18"),
        ("swan", 2, "5.5,7 3.8,4.5 7,1.2 12,1.5 14.5,5.5 12,11 4.5,18.5* 10,17.6 16.5,18.8"),
        ("low", 2, "2.5,6 6.5,3 12,3.5 13,7.5 9,12.5 3,16.8 1.5,15.5 4.5,14 10,15.5 18.5,17"),
        ("short foot", 0.5, "5,5 8,1.5 12.5,2 14,6 11,12 6,18.8* 10,18.3 14,18.5"),
        ("big loop", 2, "5,3.5 9,1.2 14,3.5 13.5,8.5 8.5,14.5 4,18 3.2,15.5 7,14 12,16.5 17,18.8"),
    ),
    3: (
        ("round", 4, "4,3.5 8,1 13.5,2.5 13.5,6.5 8,9.5* 13.5,10.5 15.5,14.5 11,18.7 4,17"),
        ("soft", 3, "5.5,4.5 10,1 13.8,3.5 11.8,7.3 8.8,9.3 12,10 15,13.3 12.5,17.8 7.5,19 2.5,17.5"),
        ("flat top", 1.5, "4,2.2 9,1.8 14.5,2* 8.5,8.5* 14,10 15.5,14.5 11,18.8 4,17.5"),
        ("knot", 1.5, "4.5,3 9.5,1 14,3.5 11.5,7.8 8,9.6 7.3,8.7 9.3,8.6 14.3,11 15,15.5 10.5,19 4,17.5"),
        ("large foot", 2, "6,3.5 10,1 13.5,3 12.5,6.5 8.5,8.3* 14.5,10 15.5,14.5 10.5,18.5 5.5,18.5 3,16"),
        ("large head", 1, "3.5,4 8.5,1 14.3,3.5 13,8 8,10.2* 12.8,11.5 14,15.5 10,19 4.2,17.8"),
    ),
    4: (
        ("open", 4, "5,2.5 4,8 4.8,11.5* 10,11.5 16,10.8 | 14.3,1.5 13.3,10 12.8,19"),
        ("bowl", 4, "5,2 4,7.5 6,11 10,11 15,9 | 15.3,1.5 13.8,9.5 12.3,19"),
        ("one stroke", 2, "4.5,2.5 3.5,8 5.8,11.2 11,10.5 15,6.5 16,2* 14.2,9.5 12.7,19"),
        ("closed", 2, "12.5,1 7.5,7 3,12.8* 10,12.7 17,12.5 | 12.8,1 12.6,10 12.4,19"),
        ("sail", 1.5, "10,2.5 7,6.5 4.3,11* 10,11 16,10.5 | 14.5,1.2 13.3,10 12.2,19"),
        ("low bar", 1.5, "5.5,3.5 3.8,9 3,13.5* 9,13.5 17.5,12.5 | 13.3,1.2 12.5,10 11.8,19"),
        ("high stem", 2, "6.5,5.5 4.5,9.5 4.5,12.2* 9,12.3 15,11 | 13.8,1 12.2,10 10.8,19"),
        ("long stem", 1, "5,1.5 5.2,5 7,8 10.5,8 14,6.5 | 14.2,1.2 13.2,9 12.6,19"),
    ),
    5: (
        ("hat", 3, "6.3,2.3 5.8,5.5 5.2,9* 9,7.8 14,10 14.5,14.8 9.5,18.8 3.5,17.3 | 7,3.2 12,2 17.5,0.8"),
        ("one stroke", 4, "16,1.5 11,1.8 7,2.3* 6,5.5 5.2,9* 9,8 13.8,10.3 14,15 9,18.8 3.5,17.5"),
        ("ess", 2, "15.5,2 9.5,1.8 6,4.5 7.5,8.3 12.3,11 13.5,15 9.5,18.8 4,17.3"),
        ("long hat", 2, "18.5,2 13.5,2.5 9,3.2* 7,6 6,9* 10,9 12.5,11.8 10.5,16 6.5,18 1.5,17.3"),
        ("deep bowl", 1.5, "15,1.5 10,1.8 5.5,2* 5,5 4.8,7.5* 10,6.8 15,10.5 14.5,16 9,19 4.2,16.8 4,14.5"),
        ("steep", 1.5, "13.5,1.2 9.8,1.8 8,2.5* 6.5,6.3 5.8,8.8* 9.5,9.5 11.8,12.8 10.2,17 6,18.8 4,17.5"),
        ("loose hat", 1, "6,3.5 5.5,6.5 5.5,9* 10,8.3 14,11.5 13,16.5 8.5,18.8 3.5,17 | 7.5,2 12,1.5 17,1"),
    ),
    6: (
        ("curve", 4, "13,1 8,5 5,11 5.8,16.8 9.5,19 13.5,16.8 13.5,12.7 9.8,11 5.8,14.5"),
        ("straight", 3, "10.5,1 7.5,6 5.5,12 6,17 10,19 14,16.5 13.5,12.8 9.5,12 6,15.5"),
        ("hook", 1.5, "14.5,3.5 11.5,1.3 7,5 4.8,11 5.8,17 10,19 14,16.5 13.3,12 9,11 5.5,14"),
        ("large bowl", 2, "11.5,1 6.5,5.5 4.3,12 6.5,17.8 11,18.8 15.3,15.5 14,10.5 9,9.5 5,13"),
        ("small bowl", 1, "14,1 9,5 5.8,11 5.5,16.5 8.5,19 11.8,17.5 12,14.5 9.5,13.3 6.5,16"),
        ("wide", 2, "12.5,1.5 6.5,6 3.3,12 5,17 10,18.7 16,16.8 16.8,13 12.5,11.8 6.5,15.5"),
        ("slim", 0.5, "11.5,1 8.8,6 7.5,12 8,17.5 10,19 12.2,17 12,13.5 10,12.3 8,15"),
        ("leaning back", 2, "7,1.2 5,6.5 4.3,13 7,18 12,18.6 15.5,15.2 13.3,12 8.5,13.3 6.5,17"),
    ),
    7: (
        ("plain", 5, "4.5,3.2 9.5,2.6 15,2.2* 11.8,9.5 9.5,19"),
        ("bent", 4, "3.5,4.5 9,3.4 15.5,3* 13.8,6.8 11.8,12 11,19"),
        ("bar", 2, "4.5,2.8 9.5,2.3 15.3,2* 11.8,9.5 9,19 | 6.5,10.8 10.5,10.4 15,9.8"),
        ("upright bar", 1.5, "4,4 9,3.3 14.5,2.7* 12.5,10 11.5,19 | 6.5,11.5 11.5,10.8 16.5,10"),
        ("serif", 2, "4.2,6.3 4.5,3* 9.5,2.5 15.3,2.3* 12,9.5 10,19"),
        ("round", 2, "3.5,5 7,2.2 12.5,2 14.5,4.8 12,11 10,19"),
        ("wave", 2, "3.5,5 6,2.5 10,3.5 15.3,2* 12,9.5 10.3,19"),
        ("steep", 2, "5,3.5 9,2.7 13.8,2.2* 13,10 12.3,19"),
    ),
    8: (
        ("ess", 4, "14.3,4.2 10.3,1.2 6.3,4 8.5,8.3 12.7,12 13.3,16.3 9.5,19 6,16.3 7.5,12 12,8 14.3,4"),
        ("two rings", 1, "9.7,9.8 5.6,5.5 10.3,1 14.4,5.3 9.7,9.8 | 10,9 5,14.3 10,19 15,14.3 9.5,9"),
        ("wide", 2, "15.5,4.5 10.5,1.5 5.3,4 8,8.5 13.8,12 14.5,16.3 9.5,18.8 4.5,16.5 6.5,12 12.5,8 15.5,4"),
        ("slim", 0.7, "13.3,3.8 10.3,1.1 7.4,4 9.3,8.8 12,13 12.2,17 9.8,19 7.3,16.5 9,12 11.8,8 13.3,4"),
        ("small head", 1.5, "13.8,4 10.5,1 7,3.8 8.7,7 13,11 14.7,15.5 10,19 5,15.8 6.8,11 11.5,7.2 13.8,4.3"),
        ("small foot", 2, "15,4 10.5,1 5.8,4.5 8,9.3 11.8,13.3 11.8,17.3 9.5,19 7.3,17 8.8,12.5 13,9 15.5,5 14,3"),
        ("open", 1.5, "15,3 10.3,1.5 6.8,4.5 8.8,8.7 13,12.5 13.3,16.5 9.5,19 6.3,16.5 7.8,12.5 12.5,8 16,4.5"),
        ("pinched", 2, "15.5,3.5 11.5,1.5 8,4.5 9,9 11.3,13 10.5,17.3 7,19 5,16.8 7.5,12.3 12,9.3 15.5,6 15.5,3.5"),
    ),
    9: (
        ("straight", 4, "13.5,3.8 10.3,1.2 6.3,4.3 6.5,8.5 10.3,8.8 13.7,4.5* 13,11.5 12.3,19"),
        ("flowing", 4, "14,3 9.5,1.5 5.8,5.3 7.3,8.8 11.3,7.8 14,3.5 13,10.5 10,19"),
        ("curved", 2.5, "13.8,4 10,1.2 6,4.5 7,8.5 11,8.3 14,4 13.8,11.5 11.3,17.5 6.5,18.5"),
        ("round", 2, "13.3,7 9.5,9.8 6,6 9.3,1.3 13.3,3.8 13.5,8 13,13 12.5,19"),
        ("small head", 2, "13.5,2.8 10.5,1.2 7.5,3.5 7.8,6.8 11,6.8 13.6,3.5* 13,11 12.2,19"),
        ("wide head", 2, "15,3.5 10,2.3 4.5,6 5,9.8 10,9.5 15,5* 13,12 11.3,19"),
        ("bent back", 1, "14,3.3 9.8,1.3 5.8,4.8 7,8.7 11,8 14.3,3.3 12.8,10 9,18.8"),
        ("angular", 1.5, "13.8,2.5 8.5,3.2 5.5,7.3 7.5,9.3 13.3,7.3 | 14,2 13.2,10.5 12.6,19"),
    ),
}


class Table(NamedTuple):
    """All K skeletons, stacked; rows start[c] .. start[c + 1] - 1 belong to class c, P is the most control points.

    Shapes: weight (K,), controls (K, P, 2), sharp and soft (K, SAMPLES, P), pen (K, SAMPLES - 1), start (11,).
    """

    weight: np.ndarray
    controls: np.ndarray
    sharp: np.ndarray
    soft: np.ndarray
    pen: np.ndarray
    start: np.ndarray


def parse(text: str) -> list[list[tuple[float, float, bool]]]:
    """Read the way of the pen: a list of strokes, each a list of (x, y, corner).

    >>> parse("4,3 15,2* 9,19 | 6,10 15,9.5")
    [[(4.0, 3.0, False), (15.0, 2.0, True), (9.0, 19.0, False)], [(6.0, 10.0, False), (15.0, 9.5, False)]]
    """

    def point(word: str) -> tuple[float, float, bool]:
        x, y = word.rstrip("*").split(",")
        return float(x), float(y), word.endswith("*")

    return [[point(word) for word in stroke.split()] for stroke in text.split("|")]


def _stroke_matrix(points: np.ndarray, corner: np.ndarray, samples: int) -> np.ndarray:
    """Matrix (samples, k) that makes a curve of k points, in equal steps of length and cubic between corners."""
    from scipy.interpolate import CubicSpline

    k = len(points)
    # Centripetal knots (square root of the distance): no overshoot or cusp where points stand unevenly.
    knots = np.concatenate([[0.0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(points, axis=0), axis=1)))])
    t = np.linspace(0.0, knots[-1], 40 * k)
    ends = [0, *np.flatnonzero(corner[1:-1]) + 1, k - 1]

    def weights(t: np.ndarray) -> np.ndarray:
        A = np.zeros((len(t), k))
        for a, b in pairwise(ends):
            inside = (t >= knots[a]) & (t <= knots[b])
            A[inside] = 0.0
            A[inside, a : b + 1] = CubicSpline(knots[a : b + 1], np.eye(b - a + 1))(t[inside])
        return A

    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(weights(t) @ points, axis=0), axis=1))])
    return weights(np.interp(np.linspace(0.0, way[-1], samples), way, t))


def _length(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def matrices(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Control points, and what turns them into the pen's way: curve = sharp @ controls, or soft @ controls.

    Shapes: controls (k, 2), sharp and soft (SAMPLES, k), pen (SAMPLES - 1,) False where it is lifted.
    """
    from scipy.linalg import block_diag
    from scipy.ndimage import gaussian_filter1d

    strokes = [np.array(stroke) for stroke in parse(text)]
    share = np.array([_length(stroke[:, :2]) for stroke in strokes])
    ends = np.rint(SAMPLES * np.cumsum(share) / share.sum()).astype(int)
    counts = np.diff(ends, prepend=0)
    sharp = [_stroke_matrix(s[:, :2], s[:, 2] > 0, m) for s, m in zip(strokes, counts, strict=True)]
    soft = [gaussian_filter1d(A, 2.2, axis=0, mode="nearest") for A in sharp]
    pen = np.ones(SAMPLES - 1, bool)
    pen[ends[:-1] - 1] = False
    return np.concatenate(strokes)[:, :2], block_diag(*sharp), block_diag(*soft), pen


@lru_cache(maxsize=1)
def table() -> Table:
    """The stacked matrices of all skeletons, made once; control points that a skeleton lacks have weight zero."""
    rows = [(weight, *matrices(text)) for digit in range(10) for _, weight, text in SKELETONS[digit]]
    most = max(len(controls) for _, controls, *_ in rows)
    controls = np.zeros((len(rows), most, 2))
    sharp, soft = np.zeros((2, len(rows), SAMPLES, most))
    for i, (_, c, a, b, _) in enumerate(rows):
        controls[i, : len(c)], sharp[i, :, : len(c)], soft[i, :, : len(c)] = c, a, b
    start = np.cumsum([0, *(len(SKELETONS[digit]) for digit in range(10))])
    return Table(np.array([r[0] for r in rows]), controls, sharp, soft, np.array([r[4] for r in rows]), start)
