"""From arrays to batches: the order, the border between uint8 and float32, and binarisation. Order and noise have a
generator each, so that turning the noise on never changes which pictures stand in a batch.
"""
from collections.abc import Callable, Iterator

import numpy as np

from npae.checks import whole

Transform = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]


def batches(x: np.ndarray, y: np.ndarray | None = None, batch_size: int = 64, *,
            order: np.random.Generator | np.ndarray | None = None, first: int = 0,
            noise: np.random.Generator | None = None, drop_last: bool = False, transform: Transform | None = None,
            dtype: type | np.dtype = np.float32,
            ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """One pass over x, and y if there is one, as pairs (x_batch, y_batch or None).

    uint8 pictures become x / 255 in `dtype`; float32 and float64 arrays keep the dtype that they have. `order`
    shuffles: a generator, or a permutation drawn before (None: as they stand); `transform(x_batch, noise)` comes last.
    The last batch is short where the size does not divide, unless `drop_last`. `first` batches are passed over, for a
    pass that goes on. A batch is to be read, not written: without shuffling it may be a view of x.

    Shapes: x (N, ...) -> (batch_size, ...); y (N, ...) likewise; order (N,) where it is a permutation.
    Raises: ValueError for another dtype, for x, y and order of different lengths, and for a pass without a batch.

    >>> for x_batch, y_batch in batches(np.array([[0], [51], [255]], np.uint8), np.array([7, 8, 9]), 2):
    ...     print(x_batch.ravel().tolist(), y_batch.tolist())
    [0.0, 0.20000000298023224] [7, 8]
    [1.0] [9]
    """
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        raise ValueError(f"batches takes pictures as an array, got {x if np.ndim(x) == 0 else type(x).__name__}")
    if x.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f"batches takes uint8 pictures or float32 and float64 arrays, got {x.dtype}: convert it first")
    if y is not None and len(y) != len(x):
        raise ValueError(f"x has {len(x)} rows and y has {len(y)}: they must be as many")
    if isinstance(order, np.ndarray):
        if order.shape != (len(x),):
            raise ValueError(f"x has {len(x)} rows and the order is of shape {order.shape}: it must name each row once")
    elif order is not None and not hasattr(getattr(order, "bit_generator", None), "random_raw"):
        raise ValueError(f"order shuffles and must be a generator such as numpy.random.default_rng(0), got {order!r}")
    if transform is not None and not callable(transform):
        raise ValueError(f"transform is a function of (x, rng), such as binarize_threshold, got {transform!r}")
    steps = range(first, count(len(x), batch_size, drop_last))  # here, so that the call itself fails
    return _walk(x, y, batch_size, steps, order, noise, transform, dtype)


def _walk(x: np.ndarray, y: np.ndarray | None, batch_size: int, steps: range,
          order: np.random.Generator | np.ndarray | None, noise: np.random.Generator | None,
          transform: Transform | None, dtype: type | np.dtype,
          ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    shuffled = permutation(len(x), order) if isinstance(order, np.random.Generator) else order
    for step in steps:
        rows: slice | np.ndarray = slice(step * batch_size, (step + 1) * batch_size)
        if shuffled is not None:
            rows = shuffled[rows]
        x_batch = to_float(x[rows], dtype)
        if transform is not None:
            x_batch = _transformed(x_batch, transform, noise)
        yield x_batch, None if y is None else y[rows]


def _transformed(x: np.ndarray, transform: Transform, noise: np.random.Generator | None) -> np.ndarray:
    new = transform(x, noise)
    if not isinstance(new, np.ndarray) or new.shape[:1] != x.shape[:1]:
        got = f"an array of shape {new.shape}" if isinstance(new, np.ndarray) else type(new).__name__
        raise ValueError(f"transform was given {len(x)} pictures of shape {x.shape[1:]} and must return as many, got "
                         f"{got}")
    return new


def to_float(x: np.ndarray, dtype: type | np.dtype = np.float32) -> np.ndarray:
    """uint8 pictures as numbers in [0, 1], x / 255; other arrays as they are."""
    return np.divide(x, 255, dtype=dtype) if x.dtype == np.uint8 else x


def count(n: int, batch_size: int, drop_last: bool = False) -> int:
    """The number of batches in one pass over n rows.

    Raises: ValueError where there would be none.

    >>> count(60_000, 64), count(60_000, 64, drop_last=True)
    (938, 937)
    """
    batch_size = whole(batch_size, "batch_size")
    if n < 1:
        raise ValueError("there are no rows to make batches of: x is empty")
    if drop_last and n < batch_size:
        raise ValueError(f"batch_size {batch_size} with drop_last leaves no batch of {n} rows: take at most {n}")
    return n // batch_size if drop_last else -(-n // batch_size)


def permutation(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of 0 ... n - 1, the same under every NumPy release: the order of n raw draws.

    `rng.permutation` may change with a release, the raw stream of a bit generator may not. Independent keys that differ
    have a uniformly distributed order; two of 64 bits are equal once in 2^64 / (n^2 / 2) passes.

    >>> permutation(8, np.random.default_rng(0)).tolist()
    [3, 2, 1, 6, 0, 7, 4, 5]
    """
    return np.argsort(rng.bit_generator.random_raw(n), kind="stable")


def binarize_threshold(x: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """x > 1/2 as 0.0 or 1.0; of the uint8 greys, 127 becomes 0 and 128 becomes 1."""
    # for x in [0, 1] this is x > 0.5, except that NaN stays NaN; + 0.0 because ceil(-0.3) is -0.0
    return np.ceil(x - 0.5) + 0.0


def binarize_sample(x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Each pixel is 1.0 with probability x, drawn afresh in every batch: dynamic binarisation.

    Raises: ValueError without a generator.
    Source: Salakhutdinov & Murray, On the quantitative analysis of deep belief networks (2008), section 6.
    """
    if rng is None:
        raise ValueError("binarize_sample draws random numbers: give batches a generator as noise=")
    return np.ceil(x - rng.random(x.shape, dtype=x.dtype.type)) + 0.0  # as in binarize_threshold, u in place of 1/2


BINARIZERS: dict[str, Transform | None] = {"none": None, "threshold": binarize_threshold, "sample": binarize_sample}


def binarizer(name: str) -> Transform | None:
    """The transform called "threshold" or "sample"; None for "none"."""
    if name not in BINARIZERS:
        raise ValueError(f"unknown binarisation {name!r}: expected one of {', '.join(BINARIZERS)}")
    return BINARIZERS[name]
