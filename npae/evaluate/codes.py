"""What a code knows of its picture: how well a simple classifier reads the label in it, and whether each known factor
has a number of its own.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npae.checks import whole

ROWS = 500  # test codes at a time: their distances to 10,000 training codes are 40 MB


def linear_probe(train_h: np.ndarray, train_y: np.ndarray, test_h: np.ndarray, test_y: np.ndarray, *,
                 ridge: float = 1e-3, steps: int = 1000) -> float:
    """The share of test labels that multinomial logistic regression reads off the codes.

        u = (h - mean) / std,  both of the training codes, a constant number left at 0
        min over W, b:  1/N sum_n -log softmax(u W + b)_y + ridge/2 ||W||^2     by L-BFGS from 0

    Convex, so the answer has no seed. Labels may be any integers; one that training has not seen counts as an error.

    Shapes: train_h (N, ...), test_h (M, ...), flattened to rows; train_y (N,), test_y (M,)
    Units: accuracy, between 0 and 1
    Raises ValueError: lengths that do not fit; codes that are not finite; no codes; a ridge below 0
    """
    train_h, train_y, test_h, test_y = _checked("linear_probe", train_h, train_y, test_h, test_y)
    if not 0 <= ridge < np.inf:
        raise ValueError(f"linear_probe needs a ridge of at least 0, got {ridge}")
    from scipy.optimize import minimize

    mean, std = train_h.mean(axis=0), train_h.std(axis=0)
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 1e-12 * np.abs(train_h).max(axis=0))
    u = np.column_stack([(train_h - mean) * scale, np.ones(len(train_h))])  # the last row of W is b
    classes, target = np.unique(train_y, return_inverse=True)
    rows = np.arange(len(u))
    penalty = np.full((u.shape[1], 1), ridge)
    penalty[-1] = 0  # the bias is free

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        W = flat.reshape(u.shape[1], len(classes))
        s = u @ W
        s -= s.max(axis=1, keepdims=True)
        ds = np.exp(s)
        norm = ds.sum(axis=1, keepdims=True)
        value = np.mean(np.log(norm[:, 0]) - s[rows, target]) + 0.5 * np.sum(penalty * W * W)
        ds /= norm
        ds[rows, target] -= 1
        return float(value), (u.T @ ds / len(u) + penalty * W).ravel()

    with np.errstate(under="ignore"):
        found = minimize(loss, np.zeros(u.shape[1] * len(classes)), jac=True, method="L-BFGS-B",
                         options={"maxiter": steps, "maxfun": 2 * steps, "gtol": 1e-5, "ftol": 0}).x
    W = found.reshape(u.shape[1], len(classes))
    guess = ((test_h - mean) * scale) @ W[:-1] + W[-1]
    return float(np.mean(classes[guess.argmax(axis=1)] == test_y))


def knn(train_h: np.ndarray, train_y: np.ndarray, test_h: np.ndarray, test_y: np.ndarray, k: int = 5) -> float:
    """The share of test labels that the k nearest training codes name, by Euclidean distance of the codes as they are.

        d^2 = ||a||^2 + ||b||^2 - 2 a b     in float64, by matrix products of ROWS test codes

    That form loses digits where codes are close, so whatever might be among the nearest k is measured again by
    differences. Training codes equally far away count in their order; of classes with equally many votes the one
    with the nearest code wins.

    Shapes: train_h (N, ...), test_h (M, ...), flattened to rows; train_y (N,), test_y (M,); 1 <= k <= N
    Units: accuracy, between 0 and 1
    Raises ValueError: lengths that do not fit; codes that are not finite; no codes; k out of range
    """
    train_h, train_y, test_h, test_y = _checked("knn", train_h, train_y, test_h, test_y)
    k = whole(k, "knn: k")
    if k > len(train_h):
        raise ValueError(f"knn has {len(train_h)} training codes, fewer than k = {k}: give more codes, or a smaller k")
    _, scale = np.frexp(max(np.abs(train_h).max(), np.abs(test_h).max()))  # a power of two: exact, and squares stay
    train_h, test_h = np.ldexp(train_h, -scale), np.ldexp(test_h, -scale)  # numbers
    c = train_h.mean(axis=0)  # distances do not know where 0 is, rounding does
    b = train_h - c
    squares = np.square(b).sum(axis=1)
    right = 0
    for i in range(0, len(test_h), ROWS):
        a = test_h[i:i + ROWS] - c
        d2 = squares - 2 * (a @ b.T)  # + ||a||^2, which is the same for the whole row
        slack = 8 * np.finfo(np.float64).eps * (a.shape[1] + 4) * (np.square(a).sum(axis=1) + squares.max())
        kth = np.partition(d2, k - 1, axis=1)[:, k - 1]
        for h, row, limit, label in zip(test_h[i:i + ROWS], d2, kth + slack, test_y[i:i + ROWS], strict=True):
            near = np.flatnonzero(row <= limit)
            far = np.square(train_h[near] - h).sum(axis=1)
            right += _vote(train_y[near[np.argsort(far, kind="stable")[:k]]]) == label
    return float(right / len(test_h))


def _vote(labels: np.ndarray) -> Any:
    """The most frequent label; of several, the one that stands first."""
    classes, first, votes = np.unique(labels, return_index=True, return_counts=True)
    return classes[np.lexsort((first, -votes))[0]]


def mig(codes: np.ndarray, factors: Mapping[str, np.ndarray], *, bins: int = 20,
        factor_bins: int = 10) -> dict[str, Any]:
    """The mutual information gap: whether one number of the code, and no other, knows each factor of the pictures.

        gap(v) = (I(h_a; v) - I(h_b; v)) / H(v),  a, b the two numbers of the code that know most of v;  mig = mean gap

    Near 1 each factor stands in a number of its own; near 0 the factors are mixed, or not in the code at all. Each
    number of the code is sorted into `bins` bins of equally many pictures (so that the answer does not depend on its
    scale), float factors into `factor_bins`; integer factors are classes. With a code of one number, I(h_b; v) is 0.
    A mutual information counted in bins is too high by about (bins - 1)(values - 1) / 2N nats, for a and b alike.

    Shapes: codes (N, d); factors: name -> (N,)
    Units: a share between 0 and 1; {"mig": .., "factors": {name: gap}}
    Raises ValueError: lengths that do not fit; a factor that is the same everywhere; no factors; fewer than 2 bins
    Source: Chen et al. 2018, arXiv:1802.04942, eq. 6 (there I is estimated from q(z|x); the bins are those of Locatello
    et al. 2019, but of equal counts rather than equal widths)
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or 0 in codes.shape or not factors:
        raise ValueError(f"mig needs codes (N, d) and at least 1 factor, got codes of shape {codes.shape} "
                         f"and {len(factors)} factors")
    if bins < 2 or factor_bins < 2:
        raise ValueError(f"mig needs at least 2 bins, got {bins} for codes and {factor_bins} for factors")
    h = [_in_bins(column, bins) for column in codes.T]
    gaps = {}
    for name, v in factors.items():
        v = np.asarray(v)
        if v.shape != (len(codes),):
            raise ValueError(f"mig got {len(codes)} codes, and the factor {name!r} of shape {v.shape}: give one value "
                             "for each picture")
        v = np.unique(v, return_inverse=True)[1] if v.dtype.kind in "iub" else _in_bins(v, factor_bins)
        entropy = _mutual_information(v, v)
        if entropy <= 0:
            raise ValueError(f"the factor {name!r} has one value in all {len(v)} pictures: leave it out")
        least, most = sorted([0.0, *(_mutual_information(column, v) for column in h)])[-2:]
        gaps[name] = (most - least) / entropy
    return {"mig": float(np.mean(list(gaps.values()))), "factors": gaps}


def _in_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """The number of each value's bin; bins hold equally many values, but equal values are never parted."""
    if not np.isfinite(values).all():
        raise ValueError("mig needs finite codes and factors, got NaN or infinity among them")
    edges = np.unique(np.sort(values)[np.arange(1, bins) * len(values) // bins])
    return np.searchsorted(edges, values, side="right")


def _mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) of two columns of small integers, in nats: sum p(a, b) log p(a, b) / (p(a) p(b)); I(a; a) is H(a)."""
    values = int(b.max()) + 1
    joint = np.bincount(a * values + b, minlength=(int(a.max()) + 1) * values).reshape(-1, values) / len(a)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return max(float(np.sum(joint[there] * np.log(joint[there] / product[there]))), 0.0)


def _checked(name: str, *parts: Any) -> list[np.ndarray]:
    """Codes as rows of float64, labels as integers.

    Raises ValueError: what the two classifiers say.
    """
    train_h, train_y, test_h, test_y = map(np.asarray, parts)
    for which, h, y in (("training", train_h, train_y), ("test", test_h, test_y)):
        if len(h) == 0 or y.shape != (len(h),) or y.dtype.kind not in "iu":
            raise ValueError(f"{name} needs at least 1 {which} code and a whole number as label for each, got codes of "
                             f"shape {h.shape} and labels of {y.dtype} and shape {y.shape}")
    if train_h.shape[1:] != test_h.shape[1:]:
        raise ValueError(f"{name} was given training codes of shape {train_h.shape[1:]} and test codes of shape "
                         f"{test_h.shape[1:]}: encode both with one model")
    train_h, test_h = (h.reshape(len(h), -1).astype(np.float64) for h in (train_h, test_h))
    if not (np.isfinite(train_h).all() and np.isfinite(test_h).all()):
        raise ValueError(f"{name} needs finite codes, got NaN or infinity among them: look at the model")
    return [train_h, train_y.astype(np.int64), test_h, test_y.astype(np.int64)]
