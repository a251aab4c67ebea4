"""What a wrong backward pass of a layer does, in words: from evidence that is looked for only after a check has failed.
The questions go from the whole to the parts: does it listen to dy at all, is a slope wrong, which outputs does it
count, where does it put them, whose W or x does it use.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npae.gradcheck.diagnosis import outputs
from npae.gradcheck.diagnosis.explain import explain
from npae.gradcheck.diagnosis.jacobian import Pullback, alike
from npae.gradcheck.diagnosis.pair import Pair
from npae.gradcheck.diagnosis.rows import NOTHING, Wrong, call, wrong_of, wrong_rows
from npae.gradcheck.diagnosis.shares import shares_of_uses
from npae.gradcheck.diagnosis.slope import of_slope
from npae.gradcheck.diagnosis.substitutes import substituted
from npae.gradcheck.facts import Facts
from npae.gradcheck.specimen import Specimen
from npae.gradcheck.verdicts import Row

Array = np.ndarray


def diagnose_layer(specimen: Specimen, x: Array, g: Array, claimed: dict[str, Array], rows: Sequence[Row],
                   facts: Facts) -> tuple[str, ...]:
    """One sentence or more for each wrong row; NOTHING where there is no explanation."""
    wrong = wrong_rows(rows)
    if not wrong:
        return ()
    pull = Pullback(specimen, x, g)
    facts = layer_facts(specimen.target, x, pull.y, specimen.params).with_(facts)
    found = _of_all(pull, claimed)
    if found:
        return found
    small = pull.small and not any(claimed[row.name].dtype == object for row in wrong)
    known = type(specimen.target).__module__.startswith("npae")
    found_rows = [wrong_of(row, claimed[row.name], pull.right(row.name) if small else None, known) for row in wrong]
    plain = {w.row.name: w.explain(facts) for w in found_rows}
    open_ = [name for name, words in plain.items() if not _is_number(words)]
    slopes = of_slope(pull, open_, claimed) if small and open_ else {}
    told = [slopes.get(w.row.name) or _of_row(pull, w, plain[w.row.name], facts) or NOTHING.format(w.name)
            for w in found_rows]
    return tuple(dict.fromkeys(told))


def _is_number(sentence: str) -> bool:
    """Zero, a sign, a factor, float32: nothing simpler can be said."""
    return any(words in sentence for words in ("sign", "is zero in all", "×", "float32"))


def layer_facts(target: Any, x: Array, y: Array, params: dict[str, Any]) -> Facts:
    """The numbers of a layer and its batch that people divide by, and forget."""
    numbers: dict[str, float] = {"the batch size": len(x)}
    pictures = [(x, "the number of pixels", "the number of in-channels")]
    if y is not x:  # a model has no y
        pictures.append((y, "the number of output pixels", "the number of out-channels"))
    for array, pixels, channels in pictures:
        if array.ndim == 4:
            numbers |= {pixels: array.shape[1] * array.shape[2], channels: array.shape[3]}
    if x.ndim == 4:
        numbers["the number of numbers a picture"] = int(np.prod(x.shape[1:]))
    if x.ndim == 2:
        numbers |= {"the fan-in": x.shape[1]}
    if y.ndim == 2:
        numbers |= {"the number of units": y.shape[1]}
    if y.ndim and len(y) > len(x) and len(y) % len(x) == 0:
        numbers["the number of samples"] = len(y) // len(x)
    for param in params.values():
        if np.ndim(param.value) == 4:
            numbers["the size of the window"] = param.value.shape[0] * param.value.shape[1]
    arrays: dict[str, Array] = {name: param.value for name, param in params.items() if "." not in name}
    for layer in target.walk() if hasattr(target, "walk") else (target,):
        for attribute, value in list(vars(layer).items()):
            _note(numbers, arrays, attribute, value)
    if getattr(target, "input_parts", ()) == ("mu", "logvar"):
        mu, logvar = np.split(x, 2, axis=1)
        arrays |= {"mu": mu, "logvar": logvar, "sigma": np.exp(logvar / 2)}
    return Facts(numbers, arrays)


SETTINGS = {"amount": "p (the amount)", "p": "p", "rate": "p", "samples": "the number of samples",
            "stride": "the stride", "pool_size": "the size of the window", "alpha": "alpha", "beta": "beta",
            "gamma": "gamma", "lam": "lam", "rho": "rho", "scale": "scale", "temperature": "temperature",
            "factor": "the size of the block"}
"""Attributes of a layer whose numbers go by another name in words."""
ARRAYS = {"used_eps": "eps", "mask": "the mask"}


def _note(numbers: dict[str, float], arrays: dict[str, Array], attribute: str, value: Any) -> None:
    """A setting of a layer as a fact."""
    words = SETTINGS.get(attribute)
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "bf" and not attribute.startswith("_") \
            and attribute != "saved":
        arrays[ARRAYS.get(attribute, attribute)] = value
    if words is None or isinstance(value, bool):
        return
    if isinstance(value, int | float):
        numbers[words] = float(value)
        if words.startswith("p") and 0 < value < 1:
            numbers["1 - p"] = 1 - float(value)
    elif isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int) for v in value):
        numbers[words] = float(value[0] * value[1])


def _of_all(pull: Pullback, claimed: dict[str, Array]) -> tuple[str, ...]:
    """Does it hear dy, does it hear it linearly, does it stay with the noise of the forward?"""
    if _draws(pull):
        return ("backward draws noise again: it moved the generator, so that its noise is not that of the forward",)
    other = pull.pulled(-2 * pull.g)
    deaf = [name for name, a in claimed.items() if np.any(a) and np.array_equal(other[name], a)]
    if deaf:
        return tuple(f"{call(name)} does not depend on dy: backward gives the same for -2 dy; multiply by dy"
                     for name in deaf)
    if not pull.small or not np.any(claimed["x"]) or pull.linear("x", claimed["x"]):
        return ()
    masked: list[tuple[str, Array, Callable[[Array], Array]]] = [
        ("dx is what a dy without its negative entries would give", pull.numeric("x"), _positive),
        ("the absolute value of dy is used", pull.numeric("x"), np.abs)]
    if pull.z is not None:
        masked.append(("dz is dy where dy is above 0, whatever z was", pull.plain("x"), _positive))
    elif pull.y.shape == pull.x.shape:
        masked.append(("dx is dy where dy is above 0, whatever x was", np.eye(pull.y.size), _positive))
    again = np.random.default_rng(13).normal(size=pull.g.shape)
    second = np.ravel(pull.pulled(again)["x"])
    for words, J, bend in masked:
        if alike(np.ravel(claimed["x"]), J.T @ np.ravel(bend(pull.g))) and alike(second, J.T @ np.ravel(bend(again))):
            return (f"the mask is taken from dy: {words}",)
    return ()


def _positive(g: Array) -> Array:
    return g * (g > 0)


def _draws(pull: Pullback) -> bool:
    rng = pull.specimen.rng
    if rng is None:
        return False
    pull.specimen.forward(pull.x)
    before = str(rng.bit_generator.state)
    pull.specimen.pull(pull.g.copy())
    return before != str(rng.bit_generator.state)


def _of_row(pull: Pullback, wrong: Wrong, plain: str, facts: Facts) -> str:
    """By the entries alone where that says all; then by the outputs that are counted; then by another x or W."""
    name, claimed = wrong.name, wrong.got
    parts = getattr(pull.specimen.target, "input_parts", ()) if wrong.row.name == "x" and wrong.whole else ()
    if parts and (not plain or plain.startswith("in ")):
        said = _of_parts(wrong, parts, facts)
        if said:
            return said
    if (plain and not plain.startswith("of the")) or not wrong.whole or not pull.small:
        return plain
    J, B = pull.numeric(wrong.row.name), pull.claimed(wrong.row.name)
    said = outputs.of_wrong_axes(name, claimed, pull) or pull.unmoved(wrong.row.name, wrong.want)
    if not said and pull.linear(wrong.row.name, claimed):
        said = outputs.of_the_dead(name, J, B) or outputs.counted(name, J, B, pull)
        said = said or outputs.transposed(name, J, B, pull)
        said = said or outputs.of_first_image(name, J, B, pull) or outputs.of_winners(name, J, B, pull)
        said = said or outputs.displaced(name, J, B, pull)
    if not said and wrong.row.name != "x":
        used = shares_of_uses(pull.specimen.target, pull.specimen.params[wrong.row.name], pull.again, pull.g,
                              np.ravel(claimed), list(np.ndindex(claimed.shape)))
        said = f"{name}: {used}" if used else ""
    said = said or substituted(pull, wrong.row, claimed) or outputs.of_other_dy(pull, name, J, claimed)
    return said or outputs.kept_one(name, J, claimed, pull) or plain


def _of_parts(wrong: Wrong, parts: tuple[str, ...], facts: Facts) -> str:
    """x = [mu | logvar]: the columns of each part, by its own name."""
    d = wrong.got.shape[1] // len(parts)
    columns = [np.s_[:, i * d:(i + 1) * d] for i in range(len(parts))]
    got, want = ([array[at] for at in columns] for array in (wrong.got, wrong.want))
    if len(parts) == 2 and alike(got[0], want[1]) and alike(got[1], want[0]):
        return f"the gradients of {parts[0]} and {parts[1]} are swapped"
    pairs = {part: Pair(f"d{part}", got[i], want[i], wrong.tol[at]) for i, (part, at) in
             enumerate(zip(parts, columns, strict=True))}
    said = [explain(pair.name, pair.got, pair.want, facts, tol=pair.tol) for pair in pairs.values()
            if np.any(pair.wrong)]
    return "; ".join(said) if all(said) else ""
