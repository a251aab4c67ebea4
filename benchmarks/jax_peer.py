"""The five tutorial models in JAX, the whole step compiled by `jit`, with npae's weights, batches and noise.

    python benchmarks/jax_peer.py HANDOVER.npz --threads 2

Like torch_peer.py it verifies itself, and steps when it is told to. JAX keeps npae's layouts (NHWC, HWIO) and has
TensorFlow's 'same' padding, so that nothing is turned; npae is not needed here, and not imported.
"""
from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import serve

Params = dict[str, Any]
LAYOUT = ("NHWC", "HWIO", "NHWC")


class Layers:
    """The layers of npae by their names, with the parameters p."""

    def __init__(self, jax: Any, p: Params):
        self.jax, self.p = jax, p
        self.relu, self.leaky, self.sigmoid, self.tanh = (
            jax.nn.relu, jax.nn.leaky_relu, jax.nn.sigmoid, jax.numpy.tanh)

    def conv(self, x: Any, name: str, stride: int = 1, padding: str = "SAME") -> Any:
        y = self.jax.lax.conv_general_dilated(x, self.p[f"{name}.W"], (stride, stride), padding,
                                              dimension_numbers=LAYOUT)
        return y + self.p[f"{name}.b"]

    def transposed(self, x: Any, name: str, stride: int) -> Any:
        y = self.jax.lax.conv_transpose(x, self.p[f"{name}.W"], (stride, stride), "SAME", dimension_numbers=LAYOUT,
                                        transpose_kernel=True)
        return y + self.p[f"{name}.b"]

    def dense(self, x: Any, name: str) -> Any:
        return x @ self.p[f"{name}.W"] + self.p[f"{name}.b"]

    def sample(self, q: Any, eps: Any) -> tuple[Any, Any, Any]:
        mu, logvar = self.jax.numpy.split(q, 2, 1)
        return mu, logvar, mu + self.jax.numpy.exp(logvar / 2) * eps


# ---- the nets: pixels or logits; of a VAE mu, logvar and z as well

def conv_ae(L: Layers, x: Any, eps: None, mean: None) -> tuple[Any, ...]:
    def twice(h: Any) -> Any:
        return h.repeat(2, 1).repeat(2, 2)

    h = x
    for i, stride in enumerate((2, 1, 2, 1)):
        h = L.relu(L.conv(h, f"encoder.{i}", stride))
    h = L.relu(L.dense(L.dense(h.reshape(len(x), -1), "encoder.5"), "decoder.0")).reshape(-1, 7, 7, 64)
    h = L.relu(L.conv(h, "decoder.2"))
    h = L.relu(L.conv(twice(h), "decoder.3"))
    h = L.relu(L.conv(twice(h), "decoder.4"))
    return (L.sigmoid(L.conv(h, "decoder.5")),)


def conv_vae(L: Layers, x: Any, eps: Any, mean: None) -> tuple[Any, ...]:
    h = x
    for i, stride in enumerate((1, 2, 1, 1)):
        h = L.relu(L.conv(h, f"encoder.{i}", stride))
    mu, logvar, z = L.sample(L.dense(L.relu(L.dense(h.reshape(len(x), -1), "encoder.5")), "encoder.6"), eps)
    h = L.relu(L.dense(z, "decoder.0")).reshape(-1, 14, 14, 64)
    return L.conv(L.relu(L.transposed(h, "decoder.2", 2)), "decoder.3"), mu, logvar, z


def bernoulli_vae(L: Layers, x: Any, eps: Any, mean: None) -> tuple[Any, ...]:
    h = L.relu(L.conv(L.relu(L.conv(x, "encoder.0", 2, "VALID")), "encoder.1", 2, "VALID"))
    mu, logvar, z = L.sample(L.dense(h.reshape(len(x), -1), "encoder.3"), eps)
    h = L.relu(L.dense(z, "decoder.0")).reshape(-1, 7, 7, 32)
    h = L.relu(L.transposed(L.relu(L.transposed(h, "decoder.2", 2)), "decoder.3", 2))
    return L.transposed(h, "decoder.4", 1), mu, logvar, z


def mlp_vae(L: Layers, x: Any, eps: Any, mean: None) -> tuple[Any, ...]:
    h = L.leaky(L.dense(L.leaky(L.dense(x.reshape(len(x), -1), "encoder.1")), "encoder.2"))
    mu, logvar, z = L.sample(L.dense(h, "encoder.3"), eps)
    h = L.leaky(L.dense(L.leaky(L.dense(z, "decoder.0")), "decoder.1"))
    return L.sigmoid(L.dense(h, "decoder.2")).reshape(x.shape), mu, logvar, z


def tied_ae(L: Layers, x: Any, eps: None, mean: Any) -> tuple[Any, ...]:
    h, names = (x - mean).reshape(len(x), -1), [f"encoder.{i}" for i in (2, 3, 4, 5)]
    for name in names:
        h = L.tanh(L.dense(h, name))
    for i, name in enumerate(reversed(names)):
        h = L.tanh(h @ L.p[f"{name}.W"].T + L.p[f"decoder.{i}.b"])
    return (h.reshape(x.shape) + mean,)


NETS = {"conv-ae": conv_ae, "conv-vae": conv_vae, "bernoulli-vae": bernoulli_vae, "mlp-vae": mlp_vae,
        "tied-ae": tied_ae}


def objective(jax: Any, facts: dict[str, Any], p: Params, x: Any, eps: Any, mean: Any) -> Any:
    """Sum over pixels and codes, mean over pictures, without a likelihood's constant."""
    J, recipe = jax.numpy, facts["recipe"]
    y, *q = NETS[recipe](Layers(jax, p), x, eps, mean)
    if recipe in ("conv-vae", "bernoulli-vae"):
        loss = (J.maximum(y, 0) - x * y + J.log1p(J.exp(-J.abs(y)))).sum()
    else:
        loss = ((y - x) ** 2).sum()
    mu, logvar, z = q or (None, None, None)
    if facts["kl"] == "analytic":
        loss += facts["beta"] * 0.5 * (mu * mu + J.exp(logvar) - 1 - logvar).sum()
    elif facts["kl"] == "sampled":
        loss += facts["beta"] * 0.5 * (z * z - eps * eps - logvar).sum()
    return loss / len(x)


def update(jax: Any, config: dict[str, Any], t: Any, theta: Any, grad: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
    """One step of the optimizer on one array."""
    root, lr, eps = jax.numpy.sqrt, config["lr"], config["eps"]
    if config["optimizer"] == "RMSprop":
        v = config["rho"] * v + (1 - config["rho"]) * grad * grad
        return theta - lr * grad / (root(v) + eps), m, v
    m = config["beta1"] * m + (1 - config["beta1"]) * grad
    v = config["beta2"] * v + (1 - config["beta2"]) * grad * grad
    m_hat, v_hat = m / (1 - config["beta1"] ** t), v / (1 - config["beta2"] ** t)
    return theta * (1 - lr * config.get("decay", 0.0)) - lr * m_hat / (root(v_hat) + eps), m, v


class Peer:
    """`step(i)` is one step on batch i mod 8, as npae's; `wait` is for the last of them to end."""

    def __init__(self, handover: Path):
        import jax

        self.jax, self.file = jax, np.load(handover)
        self.facts = json.loads(str(self.file["facts"]))
        self.names = [name.removeprefix("start/") for name in self.file if name.startswith("start/")]
        self.x = [jax.numpy.asarray(x) for x in self.file["x"]]
        self.eps = [jax.numpy.asarray(e) for e in self.file["eps"]] if "eps" in self.file else [None] * len(self.x)
        mean, facts = self.file.get("mean"), self.facts
        self.loss_and_grad = jax.jit(jax.value_and_grad(lambda p, x, eps: objective(jax, facts, p, x, eps, mean)))

        def along(state: Any, grad: Params) -> Any:
            p, m, v, t = state
            new = {name: update(jax, facts["optimizer"], t + 1, p[name], grad[name], m[name], v[name]) for name in p}
            return *({name: one[k] for name, one in new.items()} for k in range(3)), t + 1

        self.along = jax.jit(along)
        self.whole = jax.jit(lambda state, x, eps: along(state, self.loss_and_grad(state[0], x, eps)[1]),
                             donate_argnums=0)
        self.state = self.start()

    def start(self) -> Any:
        """Parameters, two moments and the count of steps."""
        J = self.jax.numpy
        p = {name: J.asarray(self.file[f"start/{name}"]) for name in self.names}
        return p, {n: J.zeros_like(a) for n, a in p.items()}, {n: J.zeros_like(a) for n, a in p.items()}, J.float32(0)

    def step(self, i: int) -> None:
        i %= len(self.x)
        self.state = self.whole(self.state, self.x[i], self.eps[i])

    def wait(self) -> None:
        self.jax.block_until_ready(self.state)

    def errors(self) -> dict[str, Any]:
        """How far this is from npae; the figures are those of torch_peer.Peer.errors."""
        params, loss, grad = self.state[0], [], {name: [] for name in self.names}
        for i, wanted in enumerate(self.file["loss"]):
            found, gradient = self.loss_and_grad(params, self.x[i], self.eps[i])
            loss.append(abs(float(found) - wanted) / abs(wanted))
            for name in self.names:
                grad[name].append(relative({name: gradient[name]}, {name: self.file[f"grad/{name}/{i}"]}))
        state = self.state
        for i in range(3):
            state = self.along(state, {name: self.file[f"grad/{name}/{i}"] for name in self.names})
        start, end = ({name: self.file[f"{kind}/{name}"].astype(np.float64) for name in self.names}
                      for kind in ("start", "end"))
        theta = relative({name: np.asarray(state[0][name]) - start[name] for name in self.names},
                         {name: end[name] - start[name] for name in self.names})
        return {"double": self.double_errors(), "loss": max(loss), "theta": theta,
                "grad": {name: float(np.median(far)) for name, far in grad.items()},
                "grad_worst": {name: max(far) for name, far in grad.items()}}

    def double_errors(self) -> dict[str, float]:
        """The loss and each gradient of batch 0 in float64."""
        with self.jax.enable_x64(True):
            mean = self.file["mean"].astype(np.float64) if "mean" in self.file else None
            eps = None if self.eps[0] is None else np.asarray(self.eps[0], np.float64)
            found, grad = self.jax.value_and_grad(lambda p: objective(
                self.jax, self.facts, p, np.asarray(self.x[0], np.float64), eps, mean))(
                    {name: self.jax.numpy.asarray(self.file[f"start/{name}"], np.float64) for name in self.names})
            wanted = float(self.file["loss64"])
            return {"loss": abs(float(found) - wanted) / abs(wanted), **{
                name: relative({name: grad[name]}, {name: self.file[f"grad64/{name}"]}) for name in self.names}}


def relative(found: Params, wanted: Params) -> float:
    """|found - wanted| / |wanted|, of all arrays together."""
    off = sum(np.sum((np.asarray(found[name], np.float64) - b) ** 2) for name, b in wanted.items())
    size = sum(np.sum(np.square(b, dtype=np.float64)) for b in wanted.values())
    return float(np.sqrt(off / size)) if size else float(off and np.inf)


def main() -> None:
    """Verify, or warm up and serve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("handover", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--verify", action="store_true", help="say how far this is from npae, in place of being timed")
    chosen = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):  # XLA's pool is as large as there are cores that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:chosen.threads])
    peer = Peer(chosen.handover)
    serve(peer.step, {"jax": peer.jax.__version__, **({"errors": peer.errors()} if chosen.verify else {})}, peer.wait)


if __name__ == "__main__":
    main()
