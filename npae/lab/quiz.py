"""The bug hunt on paper: a quiz for a class, and its answers on a sheet of their own. Both are Markdown.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from npae import store
from npae.lab import planting
from npae.lab.bughunt import Hunt, bugs_of, take
from npae.lab.zoo.kinds import markdown, sentence

LETTERS = "abcd"
QUESTIONS = 6
"""On a sheet, if nobody says how many."""
HEAD = """# Which bug is it?

Name: ______________________________  Date: ______________

Somebody has changed a line or two of a piece of code that was right; each time it is another piece, and there is one
mistake in it. Below stands what the checks say of it. Tick the sentence that fits, and say how you know.

In the reports, *analytic a* is what the backward pass gives, *numeric r* what differences of the forward give for the
same entry. x, W, b stand for their gradients dx, dW, db; y is the output, dy the gradient that comes in, N the number
of images. Tests that are not listed have passed.
"""


def write(room: str | None, seed: int, number: int | None, path: str, answers_path: str | None, again: str
          ) -> list[str]:
    """Write both papers; what was written, in words. `again` is the command that asks the same.

    Raises ValueError: one file for both; what `take` raises.
    """
    paper = Path(path)
    other = paper.with_name(f"{paper.stem}-answers.md") if answers_path is None else Path(answers_path)
    if paper.resolve() == other.resolve():
        raise ValueError(f"the quiz and its answers would both go to {path}: give --answers another file")
    n = min(QUESTIONS, bugs_of(room)) if number is None else number
    questions = list(take(room, seed, n))
    store.write_text(paper, quiz(questions))
    store.write_text(other, answers(questions, f"{again} -n {n} --sheet {path}"))
    return [f"{n} question{'s' * (n != 1)}: {paper}", f"their answers: {other}"]


def quiz(questions: Sequence[Hunt]) -> str:
    """The paper for the class: reports without explanations, four sentences each, and room to write."""
    blocks = [HEAD.strip()]
    for number, question in enumerate(questions, 1):
        boxes = [f"- ☐ {letter}. {markdown(text)}" for letter, text in zip(LETTERS, question.choices, strict=False)]
        blocks += [f"## {number}. {question.place}", f"```text\n{question.evidence}\n```", "\n".join(boxes),
                   "I know it because ______________________________________________"]
    return "\n\n".join(blocks) + "\n"


def answers(questions: Sequence[Hunt], again: str) -> str:
    """The paper for the teacher: which sentence, the lines, and what npae's own diagnosis says."""
    blocks = ["# Which bug is it? The answers", " · ".join(
        f"{number} {LETTERS[question.answer - 1]}" for number, question in enumerate(questions, 1))]
    for number, question in enumerate(questions, 1):
        diff = "\n".join(planting.lines(question.bug))
        blocks += [f"## {number}. {question.place}", f"**{LETTERS[question.answer - 1]}.** "
                   f"{markdown(sentence(question.bug))}", f"```diff\n{diff}\n```",
                   f"What the diagnosis says of it:\n\n```text\n{question.hint}\n```"]
    return "\n\n".join([*blocks, f"The same quiz again: `{again}`"]) + "\n"
