"""The pictures of explanations: arrays that layers have computed, and what `figures.backprop` draws of them.
"""
from __future__ import annotations

from functools import cache, partial
from itertools import zip_longest

import numpy as np

from npae.figures import backprop, backprop_latent
from npae.kernels import reference
from npae.kernels.geometry import Geometry, window_geometry
from npae.lab.explain.blocks import Picture
from npae.layers import Reparameterize
from npae.penalties import gaussian_kl

Array = np.ndarray
DRAWS = 20_000
LATENTS = (1, 2, 4, 8, 16, 32, 64)
SHOWN = 8
"""Latents of the histogram."""
MU, TARGET = 0.5, 2.0
"""Where the codes are, and where f(z) = Σ (z − target)² / 2 would have them."""
SETTINGS: dict[str, tuple[int, int, str | int]] = {
    "kernel 2\n'valid'": (2, 1, "valid"), "kernel 2\n'same'": (2, 1, "same"),
    "kernel 3, stride 2\n'same'": (3, 2, "same"), "kernel 3, stride 2\npadding 1": (3, 2, 1)}


def im2col(g: Geometry) -> Picture:
    """Which pixel goes to which column, and how often it comes back."""
    numbers = np.arange(np.prod(g.input_size), dtype=np.float64).reshape(1, *g.input_size, 1)
    pixels = reference.im2col(numbers + 1, g).reshape(np.prod(g.output_size), -1).astype(int) - 1  # -1: the padding's 0
    counts = copies(g)
    rows = [" ".join(" ·" if number < 0 else f"{number:2d}" for number in row) for row in pixels]
    backs = ["".join(f"{count:3d}" for count in row) for row in counts]
    beside = [f"{left:<40}{right}" for left, right in zip_longest(rows, backs, fillvalue="")]
    text = "\n".join([f"{'im2col: a row for each window':<40}col2im: how often each comes back", *beside])
    return Picture("Pixels are numbered row by row. Forward lays each window out as a row, and so copies a pixel once "
                   "for every window that sees it; col2im adds the copies up again.",
                   partial(backprop.im2col_and_back, pixels, counts), text)


def copies(g: Geometry) -> Array:
    """How many windows see each pixel, (H, W): col2im of ones."""
    return reference.col2im(np.ones((1, *g.output_size, *g.kernel_size, 1)), g)[0, :, :, 0].astype(int)


def strides() -> Picture:
    """Who is seen how often, under four settings."""
    settings = []
    for name, (kernel, stride, padding) in SETTINGS.items():
        g = window_geometry(4, kernel, stride, padding)
        whole = Geometry(g.padded_size, g.kernel_size, g.stride, (0, 0), g.output_size)
        settings.append(backprop.Windows(name, copies(whole), g.padding, g.input_size, g.kernel_size, g.output_size))
    return Picture("Four settings on a picture of 4 × 4. With 'same' the odd row of zeros stands at the bottom, the "
                   "odd column at the right. Zeros that no window meets are left out: with padding 1 there is a row "
                   "below and a column to the right, too. A pixel that few windows see hears from few: its gradient "
                   "is a shorter sum.",
                   partial(backprop.windows, settings), _counted(settings))


def _counted(settings: list[backprop.Windows]) -> str:
    """The counts of each setting beside each other, a dot for a zero of the padding."""
    blocks = []
    for one in settings:
        (top, left), (H, W) = one.padding, one.size
        rows = [" ".join(str(count) if top <= i < top + H and left <= j < left + W else "·"
                         for j, count in enumerate(row)) for i, row in enumerate(one.seen.tolist())]
        blocks.append([*one.name.split("\n"), *rows])
    return "\n".join("".join(f"{line:<22}" for line in lines).rstrip() for lines in zip_longest(*blocks, fillvalue=""))


def adjoint(g: Geometry) -> Picture:
    """The matrix of the convolution, by running it on pictures with a single 1."""
    H, W = g.input_size
    units = np.eye(H * W).reshape(H * W, H, W, 1)
    taps = np.arange(1.0, 1 + np.prod(g.kernel_size)).reshape(g.kernel_size)
    A = reference.conv2d(units, taps[:, :, None, None], g).reshape(H * W, -1).T
    return Picture("Each column of A is the convolution of a picture with a single 1, run by npae. A has a row for "
                   "each window and a column for each pixel; in Aᵀ it is the other way round. x and y are "
                   "the convolution's here: a transposed convolution has y = Aᵀ x, its bias aside, and dx = A dy.",
                   partial(backprop.adjoint, taps, A))


def routing(arrays: dict[str, Array]) -> Picture:
    """The first picture of the example, its first channel."""
    one = {name: arrays[name][0, :, :, 0] for name in ("x", "y", "dy", "dx", "row", "column")}
    winners = np.stack([one["row"], one["column"]], axis=-1)
    return Picture("The example's first picture, its first channel.",
                   partial(backprop.routing, one["x"], winners, one["y"], one["dy"], one["dx"]))


def contributions(names: tuple[str, str], first: Array, second: Array) -> Picture:
    """The two shares of a tied gradient, and their sum."""
    shares = {names[0]: first, names[1]: second, "dW": first + second}
    return Picture("The two contributions in this example, computed one by one, and the gradient that backward gives.",
                   partial(backprop.contributions, shares))


# ---- a gradient through a sample, two ways

@cache
def estimates(d: int, draws: int = DRAWS) -> tuple[Array, Array]:
    """Single-sample estimates of the derivative of E[f(z)] by the first mu, f(z) = Σ_j (z_j − target)² / 2.

        reparameterised: df/dz_1            score function: f(z) ∂log q(z)/∂mu_1 = f(z) (z_1 − mu_1)

    sigma is 1; both have the mean mu_1 − target. Shapes: (draws,) each.
    """
    layer = Reparameterize(rng=np.random.default_rng([d, 31]))
    x = np.concatenate([np.full((draws, d), MU), np.zeros((draws, d))], axis=1)
    z = layer.forward(x)
    pathwise = layer.backward(z - TARGET)[:, 0]
    score = np.square(z - TARGET).sum(1) / 2 * (z[:, 0] - MU)
    return pathwise, score


def estimators() -> Picture:
    """Histograms for a few latents, and the variance by their number."""
    measured = np.array([[estimate.var() for estimate in estimates(d)] for d in LATENTS])
    ratio = measured[-1, 1] / measured[-1, 0]
    names = "reparameterised", "score function"
    samples = dict(zip(names, estimates(SHOWN), strict=True))
    variances = {name: (np.array(LATENTS), measured[:, k]) for k, name in enumerate(names)}
    note = (f"dE[f(z)]/dmu₁,  f(z) = Σ (z − {TARGET:g})² / 2,  z ~ N({MU:g}, 1);  left: {SHOWN} latents;  "
            f"{DRAWS:,} draws each")
    caption = (f"Two estimates of dE[f(z)]/dmu₁ from one sample, for f(z) = Σ_j (z_j − {TARGET:g})² / 2. Both are "
               "right on average. The score function's, f(z) ∂log q(z)/∂mu₁, only asks how large f as a whole was, so "
               "every other latent is noise to it; the reparameterised one, ∂f/∂z₁, knows f's slope. Measured at "
               f"{LATENTS[-1]} latents, the variances are {float(f'{ratio:.2g}'):,.0f} to 1.")
    return Picture(caption, partial(backprop_latent.estimators, samples, MU - TARGET, variances, note=note))


def kl_area(mu: float = 1.0, sigma: float = 0.6) -> Picture:
    """The divergence of one latent, by its areas and in closed form."""
    z = np.linspace(-4, 4, 2001)

    def normal(m: float, s: float) -> Array:
        return np.exp(-np.square((z - m) / s) / 2) / (s * np.sqrt(2 * np.pi))

    q, p = normal(mu, sigma), normal(0, 1)
    closed = gaussian_kl(np.array([[mu]]), np.array([[2 * np.log(sigma)]]))[0]
    note = f"q = N({mu:g}, {sigma:g}²), p = N(0, 1)"
    return Picture("Where q is larger than p the integrand, q log(q / p), is above 0, where it is smaller below. There "
                   "is never more below than above: KL(q‖p) is at least 0, and 0 only where q = p.",
                   partial(backprop_latent.kl_area, z, q, p, closed, note=note))
