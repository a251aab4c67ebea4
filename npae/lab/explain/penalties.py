"""The penalties: what a code or a weight costs, and what each asks of the numbers that it is made of."""
from __future__ import annotations

import numpy as np

from npae import penalties
from npae.kernels import reference
from npae.lab.explain import example, pictures
from npae.lab.explain.algebra import Array, Constant, apply, arrays, letters
from npae.lab.explain.lesson import Equation, Gradient, Lesson, Path
from npae.lab.explain.sums import total
from npae.layers import Sigmoid

n, j, i, k, N, K, rho = letters("n j i k N K rho")
n_, j_, k_, i_ = letters("n′ j′ k′ i′")
mu, logvar, sigma, eps, z, kl, h, rho_hat, W, slope, w2 = arrays("mu logvar sigma eps z kl h rho_hat W s w2")
dmu, dlogvar, dsigma, dz, dkl, dh, drho_hat, dW, ds, dw2 = arrays("dmu dlogvar dsigma dz dkl dh drho_hat dW ds dw2")
L = Array("L")[()]
Shape = tuple[int, ...]
CODES = "Letters: n is the picture, j the latent, N the number of pictures"
Values = dict[str, example.Array]
MEAN_OF_PICTURES = Gradient(
    Equation(dkl[n], 1 / N), "What a picture's code costs, kl[n], stands in L once, with the factor 1/N.",
    (Path(L, 1 / N),), "L is a mean over the pictures: the gradient carries 1/N from here on.", ("dkl = 1/N",))


def _codes(shape: Shape, what: str) -> str:
    """2 codes of 3 units"""
    return f"{example.counted(shape[0], 'code')} of {example.counted(shape[1], what)}"


def gaussian_kl(shape: Shape | None) -> Lesson:
    """The closed form."""
    def f(mu: example.Array, logvar: example.Array) -> tuple[float, Values]:
        value, dmu, dlogvar = penalties.gaussian_kl(mu, logvar)
        return value, {"mu": dmu, "logvar": dlogvar}

    shape = example.checked_shape(shape, (2, 2), "gaussian_kl", "(N, d)")
    codes = {"mu": example.whole(shape, 7), "logvar": example.whole(shape, 8) / 2}
    e = example.of_function(f"gaussian_kl on {_codes(shape, 'latent')}", f, codes,
                            {"n": shape[0], "j": shape[1]}, letters={"N": shape[0]})
    e.arrays.update(kl=penalties.gaussian_kl_per_image(**codes), dkl=np.full(shape[0], 1 / shape[0]), dL=np.array(1.0))
    e.losses["kl"] = lambda kl: float(np.mean(kl))
    each = (mu[n, j].squared() + apply("expm1", logvar[n, j]) - logvar[n, j]) / 2
    return Lesson(
        e, "how far a code is from the prior, in closed form", f"{CODES}.",
        (Equation(kl[n], total(j, each)), Equation(L, total(n, kl[n]) / N)),
        "KL(q‖p) is the mean under q of log q(z) − log p(z), for one latent with q = N(mu, sigma²) and p = N(0, 1). "
        "But for the same constant, log q(z) = −(z − mu)² / (2 sigma²) − log(sigma²) / 2 and log p(z) = −z² / 2. Under "
        "q the mean of (z − mu)² is sigma² and that of z² is mu² + sigma², so what is left is (mu² + sigma² − 1 − "
        "log(sigma²)) / 2. For all latents q and p are products of such densities: the logarithms add, and so do the "
        "divergences. With sigma² = exp(logvar), sigma² − 1 is expm1(logvar), which keeps its digits where logvar is "
        "near 0.",
        (MEAN_OF_PICTURES,
         Gradient(Equation(dmu[n, j], mu[n, j] / N), "mu[n, j] stands in its own picture's cost, as mu² / 2.",
                  (Path(kl[n_], mu[n, j], ((n_, n),)),), "Descent pulls mu towards 0, the harder the farther it is.",
                  ("dmu = mu / N",)),
         Gradient(Equation(dlogvar[n, j], apply("expm1", logvar[n, j]) / (2 * N)),
                  "logvar[n, j] stands there twice, within expm1 and by itself.",
                  (Path(kl[n_], apply("expm1", logvar[n, j]) / 2, ((n_, n),)),),
                  "(exp(logvar) − 1) / 2 is negative where sigma is below 1, so that descent makes sigma larger, "
                  "positive where it is above, and 0 at sigma = 1, the prior's.",
                  ("dlogvar = (exp(logvar) − 1) / (2 N)",))),
        (penalties.gaussian_kl, penalties._gaussian_kl_each), scalar=True, pictures=(pictures.kl_area(),))


def gaussian_kl_sampled(shape: Shape | None) -> Lesson:
    """The Monte Carlo estimate, with two samples a picture."""
    e = _sampled(example.checked_shape(shape, (2, 2), "gaussian_kl_sampled", "(N, d)"))
    each = (z[k, n, j].squared() - eps[k, n, j].squared() - logvar[n, j]) / 2
    return Lesson(
        e, "the same divergence at the z that was drawn",
        f"{CODES}, k the sample, K the number of samples. In the function eps has two axes: eps[k, n, j] is in its row "
        "k N + n.",
        (Equation(sigma[n, j], apply("exp", logvar[n, j] / 2)),
         Equation(z[k, n, j], mu[n, j] + sigma[n, j] * eps[k, n, j]),
         Equation(kl[k, n], total(j, each)), Equation(L, total((k, n), kl[k, n]) / (K * N))),
        "log q(z) − log p(z) at a drawn z = mu + sigma eps: log q is −eps² / 2 − logvar / 2 and log p is −z² / 2, but "
        "for the same constant. Its mean over eps is the closed form; a single estimate may be negative.",
        (Gradient(Equation(dkl[k, n], 1 / (K * N)), "What a picture's sample costs, kl[k, n], stands in L once.",
                  (Path(L, 1 / (K * N)),), "A mean over samples and pictures.", ("dkl = 1 / (K N)",)),
         Gradient(Equation(dz[k, n, j], z[k, n, j] / (K * N)), "z[k, n, j] stands in its own sample's cost, as z² / 2.",
                  (Path(kl[k_, n_], z[k, n, j], ((k_, k), (n_, n))),), "eps is not moved: it was drawn outside.",
                  ("dz = z / (K N)",)),
         Gradient(Equation(dmu[n, j], total(k, dz[k, n, j])), "mu[n, j] stands in the z of every sample.",
                  (Path(z[k_, n_, j_], Constant(1), ((n_, n), (j_, j))),), "All samples share it.",
                  ("dmu = Σ_k dz[k, :, :]",)),
         Gradient(Equation(dsigma[n, j], total(k, dz[k, n, j] * eps[k, n, j])), "So does sigma[n, j], beside each eps.",
                  (Path(z[k_, n_, j_], eps[k_, n, j], ((n_, n), (j_, j))),), "Again a sum over the samples.",
                  ("dsigma = Σ_k dz[k, :, :] ⊙ eps[k, :, :]",)),
         _two_ways()),
        (penalties.gaussian_kl_sampled,), scalar=True)


def _sampled(shape: tuple[int, ...]) -> example.Example:
    def f(mu: example.Array, logvar: example.Array, eps: example.Array) -> tuple[float, Values]:
        value, dmu, dlogvar = penalties.gaussian_kl_sampled(mu, logvar, eps.reshape(-1, mu.shape[1]))
        return value, {"mu": dmu, "logvar": dlogvar}

    codes = {"mu": example.whole(shape, 7), "logvar": example.whole(shape, 8) / 2}
    noise = example.halves((2, *shape), 5) * example.whole((2, *shape), 6)
    e = example.of_function(f"gaussian_kl_sampled on {_codes(shape, 'latent')}, 2 samples each", f, codes,
                            {"n": shape[0], "j": shape[1], "k": 2}, constants={"eps": noise},
                            letters={"N": shape[0], "K": 2})
    spread, rows = np.exp(codes["logvar"] / 2), 2 * shape[0]
    drawn, rest = codes["mu"] + spread * noise, np.square(noise) + codes["logvar"]
    e.arrays.update(sigma=spread, z=drawn, kl=(np.square(drawn) - rest).sum(2) / 2,
                    dkl=np.full((2, shape[0]), 1 / rows), dz=drawn / rows,
                    dsigma=(drawn / rows * noise).sum(0), dL=np.array(1.0))
    e.losses.update(kl=lambda kl: float(np.mean(kl)), z=lambda z: float(np.sum(z * z - rest)) / 2 / rows,
                    sigma=lambda s: float(np.sum((codes["mu"] + s * noise) ** 2 - rest)) / 2 / rows)
    return e


def _two_ways() -> Gradient:
    return Gradient(
        Equation(dlogvar[n, j], dsigma[n, j] * sigma[n, j] / 2 - 1 / (2 * N)),
        "logvar[n, j] has two ways to the loss: through sigma, and by itself in the cost of each sample.",
        (Path(sigma[n_, j_], sigma[n, j] / 2, ((n_, n), (j_, j))), Path(kl[k_, n_], Constant(-1) / 2, ((n_, n),))),
        "By itself it is −1/2 in each of K samples, over K N: −1 / (2 N). Without one of the two ways the model still "
        "trains, but not towards the prior.", ("dlogvar = dsigma ⊙ sigma / 2 − 1 / (2 N)",))


def sparsity_kl(shape: Shape | None) -> Lesson:
    """Two coins for each unit."""
    goal = 0.25

    def f(h: example.Array) -> tuple[float, Values]:
        value, dh = penalties.sparsity_kl(h, goal)
        return value, {"h": dh}

    shape = example.checked_shape(shape, (3, 2), "sparsity_kl", "(N, d)")
    codes = np.random.default_rng(2).choice((0.125, 0.25, 0.5, 0.75), shape)
    e = example.of_function(f"sparsity_kl with rho = {goal:g} on {_codes(shape, 'unit')}", f, {"h": codes},
                            {"n": shape[0], "j": shape[1]}, letters={"N": shape[0], "rho": goal})
    mean = codes.mean(0)
    e.arrays.update(rho_hat=mean, drho_hat=(1 - goal) / (1 - mean) - goal / mean, dL=np.array(1.0))
    e.losses["rho_hat"] = lambda r: float(np.sum(goal * np.log(goal / r) + (1 - goal) * np.log((1 - goal) / (1 - r))))
    coin = rho * apply("log", rho / rho_hat[j]) + (1 - rho) * apply("log", (1 - rho) / (1 - rho_hat[j]))
    pull = (1 - rho) / (1 - rho_hat[j]) - rho / rho_hat[j]
    return Lesson(
        e, "how far a unit's mean activation is from rho", "Letters: n is the picture, j the unit, h[n, j] its "
        "activation, N the number of pictures, rho the mean activation that is wanted, rho_hat the one that is found.",
        (Equation(rho_hat[j], total(n, h[n, j]) / N), Equation(L, total(j, coin))),
        "First the mean of each unit, then the divergence KL(rho‖rho_hat) of two coins that show heads with "
        "probability rho and rho_hat. It is no mean over pictures: a unit may be active for one if it is not for "
        "others.",
        (Gradient(Equation(drho_hat[j], pull), "rho_hat[j] stands in the term of its own unit, within two logarithms.",
                  (Path(L, pull),), "The derivative of −log(1 − t) is 1 / (1 − t), that of −log(t) is −1 / t. At "
                  "rho_hat = rho both terms are 1 and the gradient is 0. Where rho_hat is smaller it is negative, so "
                  "that descent raises it.", ("drho_hat = (1 − rho) / (1 − rho_hat) − rho / rho_hat",)),
         Gradient(Equation(dh[n, j], drho_hat[j] / N), "h[n, j] reaches the loss through its unit's mean.",
                  (Path(rho_hat[j_], 1 / N, ((j_, j),)),),
                  "n is not in drho_hat: all pictures get the same row. A mean forward is an even share backward.",
                  ("dh = ones drho_hat / N", "A column of N ones copies the row to every picture."))),
        (penalties.sparsity_kl,), scalar=True)


def contractive(shape: Shape | None) -> Lesson:
    """‖J‖² of one sigmoid layer."""
    curve = Sigmoid()

    def f(h: example.Array, W: example.Array) -> tuple[float, Values]:
        value, dh, dW = penalties.contractive(h, W, curve)
        return value, {"h": dh, "W": dW}

    N_, d = example.checked_shape(shape, (2, 2), "contractive", "(N, d)")
    given = {"h": np.random.default_rng(2).choice((0.125, 0.25, 0.75), (N_, d)), "W": example.whole((3, d), 4)}
    e = example.of_function(f"contractive on {_codes((N_, d), 'sigmoid')} over 3 inputs", f, given,
                            {"n": N_, "j": d, "i": 3}, letters={"N": N_})
    s, size = curve.slope(given["h"]), np.square(given["W"]).sum(0)
    e.arrays.update(s=s, w2=size, ds=2 * s * size / N_, dw2=np.square(s).sum(0) / N_, dL=np.array(1.0))
    e.losses.update(s=lambda s: float(np.sum(s * s * size)) / N_, w2=lambda w2: float(np.sum(s * s * w2)) / N_)
    return Lesson(
        e, "how strongly a code changes with its picture", "Letters: n is the picture, j the unit, i the input, N the "
        "number of pictures.",
        (Equation(slope[n, j], h[n, j] * (1 - h[n, j])), Equation(w2[j], total(i, W[i, j].squared())),
         Equation(L, total((n, j), slope[n, j].squared() * w2[j]) / N)),
        "For h = f(x W + b) the Jacobian of one picture is ∂h[j]/∂x[i] = s[j] W[i, j], s being f's slope; for a "
        "sigmoid s = h (1 − h). Its squared Frobenius norm is Σ_{i, j} s[j]² W[i, j]². W is the same for all pictures, "
        "so its part, w2, can be summed beforehand.",
        (Gradient(Equation(ds[n, j], 2 * slope[n, j] * w2[j] / N), "s[n, j] stands in one term, squared.",
                  (Path(L, 2 * slope[n, j] * w2[j] / N),), "The derivative of a square.", ("ds = 2 s ⊙ w2 / N",)),
         Gradient(Equation(dh[n, j], ds[n, j] * (1 - 2 * h[n, j])), "h[n, j] reaches the loss through its slope.",
                  (Path(slope[n_, j_], 1 - 2 * h[n, j], ((n_, n), (j_, j))),),
                  "1 − 2 h is the derivative of the slope h (1 − h) by h (`bend` in the code). The penalty is made of "
                  "first derivatives, so its gradient needs second ones.", ("dh = ds ⊙ bend(h)",)),
         Gradient(Equation(dw2[j], total(n, slope[n, j].squared() / N)), "w2[j] stands in the terms of all pictures.",
                  (Path(L, total(n, slope[n, j].squared() / N)),), "So it is summed over n.", ("dw2 = Σ_n s[n, :]² / "
                                                                                               "N",)),
         Gradient(Equation(dW[i, j], dw2[j] * 2 * W[i, j]), "W[i, j] stands in w2[j], squared, with h held still.",
                  (Path(w2[j_], 2 * W[i, j], ((j_, j),)),),
                  "h depends on W too. That way leads through dh, which the model hands to the encoder's backward: "
                  "both shares are added up in W.grad.", ("dW = 2 W ⊙ dw2",))),
        (penalties.contractive, Sigmoid.slope, Sigmoid.bend), scalar=True)


def weight_decay(shape: Shape | None) -> Lesson:
    """Σ W²"""
    def f(W: example.Array) -> tuple[float, Values]:
        value, (dW,) = penalties.weight_decay([W], reference)
        return value, {"W": dW}

    rows, columns = example.checked_shape(shape, (3, 2), "weight_decay", "(in, out)")
    e = example.of_function(f"weight_decay of a W of shape {rows, columns}", f,
                            {"W": example.whole((rows, columns), 4)}, {"i": rows, "j": columns})
    e.arrays["dL"] = np.array(1.0)
    return Lesson(
        e, "the squared length of the weights", "Letters: i and j are the row and column of W.",
        (Equation(L, total((i, j), W[i, j].squared())),),
        "With several arrays of weights the sums are added. Biases are left out: they shift a map, but do not make it "
        "steep.",
        (Gradient(Equation(dW[i, j], 2 * W[i, j]), "W[i, j] stands in one term, squared.", (Path(L, 2 * W[i, j]),),
                  "By the penalty alone, weighed by lam, a step of gradient descent with learning rate lr makes W into "
                  "W − lr lam 2 W = (1 − 2 lr lam) W: every weight loses the same share. That is the decay.",
                  ("dW = 2 W",)),),
        (penalties.weight_decay,), scalar=True)
