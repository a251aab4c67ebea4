"""The five tutorial models as one would write them in PyTorch, with npae's weights, batches and noise.

    python benchmarks/torch_peer.py HANDOVER.npz --mode eager|channels_last|compile|compile_channels_last --threads 2

It verifies itself against what npae handed over, says how far apart the two are, and steps when it is told to (see
side_by_side.py). npae is not needed here, and not imported.

TensorFlow's 'same' padding, which npae's convolutions have, puts the odd pixel behind; PyTorch's padding=1 at stride 2
uses the one in front alone. So the peer's pictures are turned by half a turn (both axes flipped), and with them its
kernels, and the weights of a dense layer that reads or paints a picture: the same numbers come out turned, and nothing
is padded or cropped beside. The encoder of bernoulli-vae has 'valid' convolutions, which leave out the last row and
column: it sees the pictures as they are.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import serve
from torch import Tensor, nn
from torch_models import TiedAutoencoder, build, build_optimizer

MODES = ("eager", "channels_last", "compile", "compile_channels_last")
Shape = tuple[int, ...]
Turn = Callable[[np.ndarray], np.ndarray]


# ---- from npae's layout to PyTorch's

def turned(x: np.ndarray) -> np.ndarray:
    """Pictures (..., H, W, C) by half a turn."""
    return x[..., ::-1, ::-1, :]


def kernel(W: np.ndarray) -> np.ndarray:
    """(kh, kw, in, out) as (out, in, kh, kw), and so (kh, kw, out, in) as (in, out, kh, kw), turned."""
    return W[::-1, ::-1].transpose(3, 2, 0, 1)


def features(picture: Shape | None, turn: bool) -> Turn:
    """The last axis, if it is a flattened picture (C, H, W) over there: from npae's order (H, W, C)."""
    def moved(a: np.ndarray) -> np.ndarray:
        if picture is None:
            return a
        c, h, w = picture
        pictures = a.reshape(*a.shape[:-1], h, w, c)
        return np.moveaxis(turned(pictures) if turn else pictures, -1, -3).reshape(a.shape)

    return moved


def placements(net: nn.Sequential, x: Tensor, turn: bool) -> Iterator[tuple[nn.Parameter, Turn]]:
    """Each parameter with the way npae's array is laid out for it; x is any input."""
    picture: Shape | None = None  # that the next dense layer reads
    layers = list(net)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Flatten):
            picture = tuple(x.shape[1:])
        elif isinstance(layer, nn.Linear):
            paints = next((tuple(l.unflattened_size) for l in layers[i + 1:i + 3] if isinstance(l, nn.Unflatten)), None)
            rows, columns = features(picture, turn), features(paints, turn)
            yield layer.weight, lambda W, rows=rows, columns=columns: rows(columns(W).T)
            yield layer.bias, columns
            picture = None
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            yield layer.weight, kernel if turn else lambda W: W.transpose(3, 2, 0, 1)
            yield layer.bias, lambda b: b
        x = layer(x)


def dense(layer: nn.Linear) -> Iterator[tuple[nn.Parameter, Turn]]:
    yield layer.weight, np.transpose
    yield layer.bias, lambda b: b


# ---- the peer

class Peer:
    """`step(i)` is one step on batch i mod 8, as npae's."""

    def __init__(self, handover: Path, mode: str, dtype: torch.dtype = torch.float32):
        self.handover, self.dtype = handover, dtype
        self.file = np.load(handover)  # arrays are read when they are asked for
        self.facts = json.loads(str(self.file["facts"]))
        pictures, self.turn_encoder = self.file["x"], self.facts["recipe"] != "bernoulli-vae"
        if self.facts["recipe"] in ("tied-ae", "mlp-vae"):
            self.x = self.target = torch.from_numpy(pictures.reshape(*pictures.shape[:2], -1)).to(dtype)
        else:
            self.target = as_nchw(turned(pictures)).to(dtype)
            self.x = self.target if self.turn_encoder else as_nchw(pictures).to(dtype)
        self.eps = torch.from_numpy(self.file["eps"]).to(dtype) if "eps" in self.file else [None] * len(pictures)
        mean = torch.from_numpy(self.file["mean"].ravel()) if "mean" in self.file else None
        self.model = build(self.facts, mean).to(dtype)
        names = [name.removeprefix("start/") for name in self.file if name.startswith("start/")]
        self.places = dict(zip(names, self.parameters(), strict=True))
        with torch.no_grad():
            for name, (param, _) in self.places.items():
                param.copy_(torch.from_numpy(self.laid(f"start/{name}", name)))
        if "channels_last" in mode:
            self.model = self.model.to(memory_format=torch.channels_last)
            same = self.x is self.target
            self.target = channels_last(self.target)
            self.x = self.target if same else channels_last(self.x)
        self.loss = torch.compile(self.model) if mode.startswith("compile") else self.model
        self.optimizer = build_optimizer(self.facts["optimizer"], self.model.parameters())

    def parameters(self) -> Iterator[tuple[nn.Parameter, Turn]]:
        """This model's parameters in npae's order, and how npae's arrays are laid out for them."""
        if isinstance(self.model, TiedAutoencoder):
            for layer in self.model.encoder:
                yield from dense(layer)
            yield from ((bias, np.copy) for bias in self.model.biases)
        else:
            yield from placements(self.model.encoder, self.x[0][:1], self.turn_encoder)
            yield from placements(self.model.decoder, torch.zeros(1, self.facts["latent"], dtype=self.dtype), True)

    def loss_and_grad(self, i: int) -> Tensor:
        """The loss of batch i; every param.grad is set."""
        i %= len(self.x)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.x[i], self.target[i], self.eps[i])
        loss.backward()
        return loss

    def step(self, i: int) -> None:
        self.loss_and_grad(i)
        self.optimizer.step()

    def errors(self) -> dict[str, Any]:
        """How far this is from npae, as |difference| / |npae's|.

        double: the loss and each gradient of batch 0 where both compute in float64. In float32, as it is timed: the
        loss on the worst batch; each gradient on the median batch (on some batch a ReLU stands so near its kink that
        rounding bends it here and not there; the worst is told too); theta after three steps along npae's gradients,
        as a share of the way. PyTorch adds up the 50,000 numbers of a bias's gradient one by one in float32: the sum
        may be 2e-4 off, and nothing is wrong.
        """
        loss, grad = [], {name: [] for name in self.places}
        for i in range(len(self.x)):
            error, far = self.batch_errors(i, self.file["loss"][i], f"grad/{{}}/{i}")
            loss.append(error)
            for name, one in far.items():
                grad[name].append(one)
        error, double = Peer(self.handover, "eager", torch.float64).batch_errors(0, self.file["loss64"], "grad64/{}")
        return {"double": {"loss": error, **double}, "loss": max(loss),
                "grad": {name: float(np.median(far)) for name, far in grad.items()},
                "grad_worst": {name: max(far) for name, far in grad.items()}, "theta": self.optimizer_error()}

    def batch_errors(self, i: int, loss: float, key: str) -> tuple[float, dict[str, float]]:
        """Of the loss, and of each gradient, whose place in the file is `key`."""
        found = self.loss_and_grad(i).item()
        return abs(found - loss) / abs(loss), {name: relative([param.grad], [self.laid(key.format(name), name)])
                                               for name, (param, _) in self.places.items()}

    def laid(self, key: str, name: str) -> np.ndarray:
        """An array of npae's, laid out for this model's parameter of that name."""
        return np.ascontiguousarray(self.places[name][1](self.file[key]))

    def optimizer_error(self, steps: int = 3) -> float:
        """|theta - npae's| / |npae's - start| after so many steps along npae's gradients."""
        for i in range(steps):
            for name, (param, _) in self.places.items():
                param.grad = torch.empty_like(param)  # in the parameter's memory order: fused Adam takes it for granted
                param.grad.copy_(torch.from_numpy(self.laid(f"grad/{name}/{i}", name)))
            self.optimizer.step()
        end, start = ([self.laid(f"{kind}/{name}", name).astype(np.float64) for name in self.places]
                      for kind in ("end", "start"))
        moved = [param.detach().double() - torch.from_numpy(a)
                 for (param, _), a in zip(self.places.values(), start, strict=True)]
        return relative(moved, [b - a for a, b in zip(start, end, strict=True)])


def as_nchw(x: np.ndarray) -> Tensor:
    """(8, N, H, W, C) as (8, N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, -3)))


def channels_last(x: Tensor) -> Any:
    """A batch each."""
    return [batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch for batch in x]


def relative(found: Sequence[Tensor | None], wanted: Sequence[np.ndarray]) -> float:
    """|found - wanted| / |wanted|, of all arrays together; infinite where one was not found."""
    if any(a is None for a in found):
        return float("inf")
    off = sum(np.sum((a.double().numpy() - b) ** 2) for a, b in zip(found, wanted, strict=True) if a is not None)
    size = sum(np.sum(b.astype(np.float64) ** 2) for b in wanted)
    return float(np.sqrt(off / size)) if size else float(off and np.inf)


def main() -> None:
    """Verify, or warm up and serve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("handover", type=Path)
    parser.add_argument("--mode", choices=MODES, default="eager")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--verify", action="store_true", help="say how far this is from npae, in place of being timed")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    peer = Peer(chosen.handover, chosen.mode)
    serve(peer.step, {"torch": torch.__version__, **({"errors": peer.errors()} if chosen.verify else {})})


if __name__ == "__main__":
    main()
