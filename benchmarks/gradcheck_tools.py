"""The same wrong gradients under the checks that people use: each bug of the zoo in a layer, a loss or a penalty
becomes two NumPy functions, forward and backward, and every tool is handed these two, at the same points.

    python benchmarks/gradcheck_tools.py [--markdown FILE] [--json FILE] [--only WORD]

Asked are npae's full protocol (`zoo.trial`), npae's gradient check alone, entry by entry and along directions (`fast`),
`torch.autograd.gradcheck` with its defaults and with fast_mode=True, the check that students write, and the rule of
HIPS autograd. PyTorch is optional: where it is absent its columns are left out.

What each of them is asked: is backward the derivative of forward, in float64? Noise is frozen: equal generators before
each forward. A tool that raises has noticed the bug too. Only npae's full protocol is told what the values should be,
and only it looks at what is remembered from call to call: no gradient check promises either, and bugs of these two
kinds are counted apart.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import gradcheck_findings
import numpy as np
from gradcheck_pairs import Arrays, Pair, copies, known

from npae import gradcheck
from npae.kernels import reference
from npae.lab import subjects
from npae.lab.planting import Bug, planted
from npae.lab.zoo import bugs
from npae.lab.zoo.trial import trial

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

STEP, WRONG = 1e-5, 1e-2  # of the student's check
FLOOR = 1e-8  # CS231n's: a derivative smaller than this is compared with it
HIPS_STEP, HIPS_TOL = 1e-6, 1e-6
HOOKS = ("branch", "on_branch", "hold")  # npae's own way to tell of kinks: no part of forward and backward

# ---- the tools: (pair, arrays) -> has it passed?

def by_npae(pair: Pair, arrays: Arrays, fast: bool = False) -> bool:
    """npae's gradient check alone: no adjoint, no state, no reference."""
    return pair.report(arrays, fast).ok


def as_tensors(pair: Pair, arrays: Arrays) -> tuple[Callable[..., Any], list[Any]]:
    """The pair as a torch.autograd.Function, and its arguments; tensors and arrays share their memory."""
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            return torch.from_numpy(np.array(pair.forward(_arrays(tensors))))

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            found = pair.backward(_arrays(ctx.saved_tensors), dy.detach().numpy())
            return tuple(torch.from_numpy(np.array(found[name])) for name in arrays)

    def _arrays(tensors: Iterable[Any]) -> Arrays:
        return dict(zip(arrays, (tensor.detach().numpy() for tensor in tensors), strict=True))

    return Function.apply, [torch.from_numpy(a.copy()).requires_grad_() for a in arrays.values()]


def by_torch(pair: Pair, arrays: Arrays, fast: bool = False) -> bool:
    """torch.autograd.gradcheck with its default steps and tolerances.

    Where the fast mode has said no, it does everything again in slow mode for the words of its error alone: left out.
    """
    function, tensors = as_tensors(pair, arrays)
    with mock.patch.object(sys.modules["torch.autograd.gradcheck"], "_run_slow_mode_and_get_error", return_value=""):
        return bool(torch.autograd.gradcheck(function, tensors, fast_mode=fast))


def by_student(pair: Pair, arrays: Arrays, seed: int | None = None) -> bool:
    """(<g, f(t + h)> - <g, f(t - h)>) / 2h beside each entry: 1e-2 of the larger one allowed; g is 1, or drawn."""
    shape = np.shape(pair.forward(arrays))
    g = np.ones(shape) if seed is None else np.asarray(np.random.default_rng(seed).standard_normal(shape))
    claimed = pair.backward(arrays, g.copy())
    for name, a in arrays.items():
        for i in np.ndindex(a.shape):
            t = a[i]
            a[i] = t + STEP
            right = np.array(pair.forward(arrays))
            a[i] = t - STEP
            left = np.array(pair.forward(arrays))
            a[i] = t
            numeric = np.sum((right - left) * g) / (2 * STEP)
            if not abs(claimed[name][i] - numeric) < WRONG * max(abs(claimed[name][i]), abs(numeric), FLOOR):
                return False
    return True


def by_hips(pair: Pair, arrays: Arrays) -> bool:
    """One Gaussian v and g for each array: |<v, J^T g> - <g, J v>| below 1e-6, or below 1e-6 of the sum of the two."""
    rng = np.random.default_rng(0)
    shape = np.shape(pair.forward(arrays))
    for name, a in arrays.items():
        v, g = rng.standard_normal(a.shape), np.asarray(rng.standard_normal(shape))
        sides = [pair.forward({**arrays, name: a + s * HIPS_STEP / 2 * v}) for s in (1, -1)]
        numeric = np.sum((sides[0] - sides[1]) * g) / HIPS_STEP
        claimed = np.sum(pair.backward(arrays, g.copy())[name] * v)
        if not (abs(claimed - numeric) < HIPS_TOL or abs(claimed - numeric) < HIPS_TOL * abs(claimed + numeric)):
            return False
    return True


FULL, TYPICAL = "npae, everything", "student, N = 1, ones"
TOOLS: dict[str, Callable[[Pair, Arrays], bool]] = {
    "npae, gradient": by_npae, "npae, fast": partial(by_npae, fast=True),
    **({"torch": by_torch, "torch, fast": partial(by_torch, fast=True)} if torch is not None else {}),
    TYPICAL: by_student, "student, npae's points": partial(by_student, seed=1), "HIPS' rule": by_hips}


def passes(tool: str, build: Callable[[], Pair], points: list[Arrays], pictures: tuple[str, ...] = ()) -> bool:
    """Is the tool content at every point? The typical student looks at one picture of the first alone."""
    if tool == TYPICAL:
        points = [{name: a[:1] if name in pictures else a for name, a in points[0].items()}]
    try:
        with np.errstate(all="ignore"):
            return all(TOOLS[tool](build(), copies(arrays)) for arrays in points)
    except Exception:  # torch says no by raising, and a bug may raise by itself
        return False


# ---- what is compared

KINDS = {"gradient": "backward is not the derivative of forward",
         "values": "forward is wrong, and backward its derivative; or a convention",
         "state": "what is remembered, written to or converted"}


def kind(bug: Bug) -> str:
    """By the parts of npae's protocol that were written down for the bug before anything was run."""
    return "gradient" if set("GAL") & set(bug.killed_by) else "state" if "S" in bug.killed_by else "values"


def comparable(bug: Bug) -> bool:
    """In a forward and a backward that can be handed over, and not in npae's hooks alone."""
    return bug.subject in known() and not all(edit.where.rsplit(".", 1)[-1] in HOOKS for edit in bug.edits)


def caught(bug: Bug) -> dict[str, bool]:
    """tool -> has it noticed the bug?"""
    subject = known()[bug.subject]
    points = sound_points(bug.subject)
    with np.errstate(all="ignore"):  # a bug may divide by zero
        found = {FULL: trial(bug).killed}
    with planted(bug):
        return found | {tool: not passes(tool, subject.build, points, subject.pictures) for tool in TOOLS}


@cache
def sound_points(name: str) -> list[Arrays]:
    """The points of a subject, found with the sound code."""
    return known()[name].points()


def alarms(name: str) -> dict[str, bool]:
    """tool -> does it cry at the sound code?"""
    subject = known()[name]
    found = {FULL: not subjects.check(name, reference).ok}
    return found | {tool: not passes(tool, subject.build, sound_points(name), subject.pictures) for tool in TOOLS}


def wrapped_wrongly(name: str) -> list[str]:
    """Of the sound code: arrays that come out of PyTorch's autograd with other bits than out of NumPy."""
    wrong = []
    for arrays in sound_points(name):
        pair = known()[name].build()
        y = np.array(pair.forward(copies(arrays)))
        dy = np.asarray(np.random.default_rng(3).standard_normal(y.shape))
        want = pair.backward(copies(arrays), dy.copy())
        function, tensors = as_tensors(pair, arrays)
        out = function(*tensors)
        got = dict(zip(arrays, torch.autograd.grad(out, tensors, torch.from_numpy(dy)), strict=True))
        wrong += ["y"] * (not np.array_equal(out.detach().numpy(), y))
        wrong += [f"d{key}" for key in want if not np.array_equal(got[key].numpy(), want[key])]
    return wrong


# ---- the three findings

SLOW = ("torch", TYPICAL, "student, npae's points")  # 200,704 forwards each where there are 100,352 weights
Score = dict[str, tuple[int, int]]
"""tool -> (caught, of so many)."""


def findings(entries: int = 30) -> dict[str, Score]:
    """What each tool makes of them; zeroed entries are spread over the sizes."""
    F = gradcheck_findings
    square, tall = list(F.spread(F.Jacobian(None).A, entries)), list(F.spread(F.tall_gradient(), entries))
    quick = [tool for tool in TOOLS if tool not in SLOW]
    sign, twins = _score([F.wrong_sign()], TOOLS), [F.wrong_sign(sign=1), F.zeroed_of_square(None)]
    return {
        f"the wrong sign, loss divided by {F.NUMBERS:,}": sign | {FULL: sign["npae, gradient"]},  # a part of it
        "one zeroed entry of a 30 x 30 Jacobian": _score(map(F.zeroed_of_square, square), TOOLS) | {
            FULL: _layers(partial(F.Jacobian, k) for k in square)},
        "one zeroed entry of 100,352 weights": _score(map(F.zeroed_of_tall, tall), quick) | _score(
            [F.zeroed_of_tall(tall[entries // 2])], [tool for tool in SLOW if tool in TOOLS]) | {
            FULL: _layers(partial(F.Tall, k) for k in tall)},
        "z = mu + exp(logvar) eps, forward and backward": {tool: (int(seen), 1) for tool, seen in caught(next(
            bug for bug in bugs("Reparameterize") if bug.name == "variance_for_sigma_consistent")).items()},
        "false alarms at these without the mistake": _score(twins, TOOLS) | _score(
            [*twins, F.zeroed_of_tall(None)], quick) | {
            FULL: _layers(partial(layer, None) for layer in (F.Jacobian, F.Tall))},
    }


def _layers(makers: Iterable[Callable[[], Any]]) -> tuple[int, int]:
    """How many of these layers npae's whole protocol objects to."""
    reports = [gradcheck.check_layer(make, make().input_shape) for make in makers]
    return sum(not report.ok for report in reports), len(reports)


def _score(cases: Iterable[tuple[Pair, Arrays]], tools: Iterable[str]) -> Score:
    """How many of these each tool catches."""
    cases = list(cases)
    return {tool: (sum(not passes(tool, lambda pair=pair: pair, [arrays]) for pair, arrays in cases), len(cases))
            for tool in tools}


# ---- tables

def table(head: str, rows: Mapping[str, Score], markdown: bool) -> str:
    """A line for each row, caught/asked in each column."""
    columns = [FULL, *TOOLS]
    body = [[name, *(f"{score[tool][0]}/{score[tool][1]}" if tool in score else "–" for tool in columns)]
            for name, score in rows.items()]
    lines = [[head, *columns], *body]
    if markdown:
        lines.insert(1, ["---"] + ["---:"] * len(columns))
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in
                               enumerate(zip(cells, widths, strict=True))).rstrip() for cells in lines)


def counts(zoo: Mapping[str, tuple[str, dict[str, bool]]], sound: Mapping[str, dict[str, bool]]) -> dict[str, Score]:
    """Caught bugs of each kind, and false alarms over all subjects. `zoo`: bug -> (kind, tool -> caught)."""
    def score(results: list[dict[str, bool]]) -> Score:
        return {tool: (sum(result[tool] for result in results), len(results)) for tool in (FULL, *TOOLS)}

    rows = {text: score([seen for k, seen in zoo.values() if k == word]) for word, text in KINDS.items()}
    return {**rows, "false alarms at the code without a bug": score(list(sound.values()))}


def main() -> None:
    """Run everything, print it, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--markdown", type=Path, help="write the tables there, in Markdown")
    parser.add_argument("--json", type=Path, help="write everything there, bug by bug")
    parser.add_argument("--only", default="", help="bugs and subjects with this word in their subject's name alone")
    chosen = parser.parse_args()
    began = time.perf_counter()
    if torch is None:
        print("PyTorch is not installed: its two columns are left out (pip install torch brings them in).\n")
    else:
        torch.set_num_threads(1)
        wrong = {name: arrays for name in known() if chosen.only in name and (arrays := wrapped_wrongly(name))}
        if wrong:
            raise SystemExit(f"PyTorch is not handed what NumPy computes, so nothing is compared: {wrong}")
    planted_here = [bug for bug in bugs() if comparable(bug) and chosen.only in bug.subject]
    zoo = {f"{bug.subject}: {bug.room}.{bug.name}": (kind(bug), caught(bug)) for bug in planted_here}
    sound = {name: alarms(name) for name in known() if chosen.only in name}
    tables = {"caught": counts(zoo, sound), **({} if chosen.only else {"the findings": findings()})}
    for head, rows in tables.items():
        print(table(head, rows, False) + "\n")
    print(f"{len(zoo)} bugs in {len(sound)} subjects, {time.perf_counter() - began:.0f} s; torch "
          f"{torch.__version__ if torch else 'absent'}, NumPy {np.__version__}")
    if chosen.markdown:
        chosen.markdown.write_text("\n\n".join(table(head, rows, True) for head, rows in tables.items()) + "\n")
    if chosen.json:
        bug_by_bug = {name: {"kind": k, "caught": seen} for name, (k, seen) in zoo.items()}
        chosen.json.write_text(json.dumps({"tables": tables, "bugs": bug_by_bug, "alarms": sound}, indent=1) + "\n")


if __name__ == "__main__":
    main()
