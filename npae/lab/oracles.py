"""What every layer's forward should give, written so plainly that nobody could get it wrong: loops over single numbers.
Nothing here is shared with npae: a layer is only asked for its settings and its weights.
"""
import math
from decimal import Decimal, localcontext

import numpy as np

DIGITS = 60  # of exp: then log(1 + exp(-80)) has all of a float's sixteen


def decimals(formula):
    """The textbook formula, which overflows and cancels in floats, in so many digits that it does not."""
    def f(t, layer):
        with localcontext(prec=DIGITS):
            return float(formula(Decimal(t)))
    return f


ACTIVATIONS = {
    "identity": lambda t, layer: t,
    "relu": lambda t, layer: t if t > 0 else 0.0,
    "leaky_relu": lambda t, layer: t if t > 0 else layer.alpha * t,
    "sigmoid": decimals(lambda t: 1 / (1 + (-t).exp())),
    "tanh": decimals(lambda t: (t.exp() - (-t).exp()) / (t.exp() + (-t).exp())),
    "softplus": decimals(lambda t: (1 + t.exp()).ln()),
}


def bend(x, layer):
    """The activation `layer`, number by number."""
    y = np.empty(x.shape)
    for index, t in np.ndenumerate(x):
        y[index] = ACTIVATIONS[layer.label](float(t), layer)
    return y


def zeros_in_front(size, kernel, stride, padding):
    """Rows of zeros above a picture: for 'same' by TensorFlow's own recipe, told by the remainder of size / stride."""
    if padding != "same":
        return 0 if padding == "valid" else padding
    remainder = size % stride
    return max(kernel - (stride if remainder == 0 else remainder), 0) // 2


def windows(size, kernel, stride, padding):
    """How many windows fit: counted, not divided."""
    if padding == "same":
        return len(range(0, size, stride))
    zeros = 0 if padding == "valid" else padding
    return len(range(0, size + 2 * zeros - kernel + 1, stride))


def conv2d(x, W, b, stride, padding):
    """Seven nested loops."""
    (n, h, w, c), (kh, kw, _, o) = x.shape, W.shape
    top, left = zeros_in_front(h, kh, stride[0], padding), zeros_in_front(w, kw, stride[1], padding)
    y = np.zeros((n, windows(h, kh, stride[0], padding), windows(w, kw, stride[1], padding), o))
    for m in range(n):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for k in range(o):
                    total = b[k]
                    for u in range(kh):
                        for v in range(kw):
                            row, column = i * stride[0] + u - top, j * stride[1] + v - left
                            if 0 <= row < h and 0 <= column < w:
                                for q in range(c):
                                    total += x[m, row, column, q] * W[u, v, q, k]
                    y[m, i, j, k] = total
    return y


def conv_transpose2d(x, W, b, stride, padding):
    """Every pixel paints its kernel on a large canvas; the picture is cut out of it. W is (kh, kw, out, in)."""
    (n, h, w, c), (kh, kw, o, _) = x.shape, W.shape
    sh, sw = stride
    canvas = np.zeros((n, h * sh + kh, w * sw + kw, o))
    for m in range(n):
        for i in range(h):
            for j in range(w):
                for u in range(kh):
                    for v in range(kw):
                        for k in range(o):
                            for q in range(c):
                                canvas[m, i * sh + u, j * sw + v, k] += x[m, i, j, q] * W[u, v, k, q]
    if padding == "same":
        rows, columns = h * sh, w * sw
        top, left = max(kh - sh, 0) // 2, max(kw - sw, 0) // 2
    else:
        top = left = 0 if padding == "valid" else padding
        rows, columns = (h - 1) * sh + kh - 2 * top, (w - 1) * sw + kw - 2 * left
    return canvas[:, top:top + rows, left:left + columns] + b


def dense(x, W, b):
    """y = x W + b, three loops."""
    y = np.zeros((x.shape[0], W.shape[1]))
    for m in range(x.shape[0]):
        for k in range(W.shape[1]):
            y[m, k] = b[k]
            for q in range(W.shape[0]):
                y[m, k] += x[m, q] * W[q, k]
    return y


def seen(x, layer):
    """(index of y, the places of the pixels that this window sees, row by row) for each number of a pooling layer."""
    n, h, w, c = x.shape
    (kh, kw), (sh, sw), padding = layer.pool_size, layer.stride, layer.padding
    top, left = zeros_in_front(h, kh, sh, padding), zeros_in_front(w, kw, sw, padding)
    for m in range(n):
        for i in range(windows(h, kh, sh, padding)):
            for j in range(windows(w, kw, sw, padding)):
                for q in range(c):
                    rows = [r for r in range(i * sh - top, i * sh - top + kh) if 0 <= r < h]
                    columns = [s for s in range(j * sw - left, j * sw - left + kw) if 0 <= s < w]
                    yield (m, i, j, q), [(m, r, s, q) for r in rows for s in columns]


def pool(x, layer, number):
    """`number` of each window's pixels."""
    found = {index: number([float(x[place]) for place in places]) for index, places in seen(x, layer)}
    y = np.empty(tuple(1 + max(axis) for axis in zip(*found, strict=True)))
    for index, value in found.items():
        y[index] = value
    return y


def max_pool2d(x, layer):
    """The largest pixel of each window."""
    return pool(x, layer, max)


def max_pool2d_input_grad(x, dy, layer):
    """Each window's dy goes to the first pixel that is as large as the largest; what meets at a pixel adds up."""
    dx = np.zeros(x.shape)
    for index, places in seen(x, layer):
        largest = max(float(x[place]) for place in places)
        dx[next(place for place in places if x[place] == largest)] += dy[index]
    return dx


def avg_pool2d(x, layer):
    """The sum of each window over its number of places."""
    return pool(x, layer, lambda pixels: sum(pixels) / (layer.pool_size[0] * layer.pool_size[1]))


def nearest(x, factor):
    """Each pixel is copied into its block."""
    n, h, w, c = x.shape
    y = np.empty((n, h * factor[0], w * factor[1], c))
    for i in range(h):
        for j in range(w):
            for u in range(factor[0]):
                for v in range(factor[1]):
                    y[:, i * factor[0] + u, j * factor[1] + v] = x[:, i, j]
    return y


def bilinear(x, factor):
    """Each pixel is a tent of height 1 over its centre and reaches to its neighbours' centres; the edge is repeated."""
    n, h, w, c = x.shape
    y = np.zeros((n, h * factor[0], w * factor[1], c))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            row = min(max((i + 0.5) / factor[0], 0.5), h - 0.5)
            column = min(max((j + 0.5) / factor[1], 0.5), w - 0.5)
            for a in range(h):
                for b in range(w):
                    share = max(0.0, 1 - abs(a + 0.5 - row)) * max(0.0, 1 - abs(b + 0.5 - column))
                    y[:, i, j] += share * x[:, a, b]
    return y


def reparameterize(x, samples, eps):
    """z = mu + sigma eps, sample by sample; eps(place) is the noise of one number."""
    n, d = x.shape[0], x.shape[1] // 2
    z = np.empty((samples * n, d))
    for s in range(samples):
        for m in range(n):
            for q in range(d):
                z[s * n + m, q] = x[m, q] + math.sqrt(math.exp(x[m, d + q])) * eps((s * n + m, q))
    return z


def noisy(x, one):
    """`one` of each number, in the order in which they are read."""
    y = np.empty(x.shape)
    for index, t in np.ndenumerate(x):
        y[index] = one(t)
    return y


def reshape(x, shape):
    """Numbers in the order in which they are read, row by row."""
    y = np.empty((len(x), *shape))
    for m in range(len(x)):
        for index, value in zip(np.ndindex(*shape), (x[m][k] for k in np.ndindex(*x.shape[1:])), strict=True):
            y[(m, *index)] = value
    return y


def _affine(plain):
    return lambda x, layer: bend(plain(x, layer, layer.W.value, layer.b.value), layer.activation)


KINDS = {
    "Dense": _affine(lambda x, layer, W, b: dense(x, W, b)),
    "TiedDense": _affine(lambda x, layer, W, b: dense(x, W.T, b)),
    "Conv2d": _affine(lambda x, layer, W, b: conv2d(x, W, b, layer.stride, layer.padding)),
    "ConvTranspose2d": _affine(lambda x, layer, W, b: conv_transpose2d(x, W, b, layer.stride, layer.padding)),
    "TiedConvTranspose2d": _affine(lambda x, layer, W, b: conv_transpose2d(x, W, b, layer.stride, layer.padding)),
    "UpsampleConv2d": _affine(lambda x, layer, W, b: conv2d(nearest(x, (2, 2)), W, b, (1, 1), "same")),
    "MaxPool2d": max_pool2d,
    "AvgPool2d": avg_pool2d,
    "Upsample2d": lambda x, layer: (nearest if layer.mode == "nearest" else bilinear)(x, layer.factor),
    "Flatten": lambda x, layer: reshape(x, (math.prod(x.shape[1:]),)),
    "Reshape": lambda x, layer: reshape(x, layer.shape),
    "Reparameterize": lambda x, layer: reparameterize(x, layer.samples, layer.eps.__getitem__),
    "Shift": lambda x, layer: np.array([[number + step for number, step in zip(row.ravel(), layer.offset.ravel(),
                                                                               strict=True)]
                                        for row in x]).reshape(x.shape),
    **dict.fromkeys(("GaussianNoise", "MaskingNoise", "Dropout"), lambda x, layer: x.copy()),  # without a generator
    **dict.fromkeys(("Identity", "ReLU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus"), bend),
}


NOISY = {  # one draw a number, from the same generator in the same order
    "Reparameterize": lambda x, layer, rng: reparameterize(x, layer.samples, lambda place: rng.standard_normal()),
    "GaussianNoise": lambda x, layer, rng: noisy(x, lambda t: t + layer.amount * rng.standard_normal()),
    "MaskingNoise": lambda x, layer, rng: noisy(x, lambda t: 0.0 if rng.random() < layer.amount else t),
    "Dropout": lambda x, layer, rng: noisy(x, lambda t: 0.0 if rng.random() < layer.amount else t / (1 - layer.amount)),
}


def forward(layer, x, rng=None):
    """What layer.forward(x) should give, in float64. With a generator, noise is what a layer draws from an equal one;
    without, noise layers are the identity, and Reparameterize takes its eps.
    """
    x, kind = np.asarray(x, np.float64), type(layer).__name__
    if kind == "Sequential":
        for child in layer.layers:
            x = forward(child, x, rng)
        return x
    return KINDS[kind](x, layer) if rng is None or kind not in NOISY else NOISY[kind](x, layer, rng)
