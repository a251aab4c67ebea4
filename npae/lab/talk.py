"""The bug hunt at a terminal: questions, what the hunter asks to see, and the answer.
"""
from __future__ import annotations

from collections.abc import Callable

from npae.lab.bughunt import Hunt, filled, take

HELP = ("check: what the checks say    passed: what they found right    code: the functions with the bug\n"
        "hint: what the diagnosis says    again: the question    1-4: your answer    quit")


def play(question: Hunt, ask: Callable[[str], str], show: Callable[[str], None]) -> bool:
    """Talk with the hunter until there is an answer; whether it is right. `ask` raises EOFError if nobody is there."""
    talk = {"check": lambda: question.evidence, "passed": lambda: question.passed, "code": lambda: question.code,
            "hint": lambda: question.hint, "again": lambda: _question(question), "help": lambda: HELP}
    show(_question(question))
    while True:
        try:
            word = ask("> ").strip().lower()
        except EOFError:
            show("")
            word = "quit"
        if word in talk:
            show(talk[word]())
        elif word.isdecimal() and 1 <= int(word) <= len(question.choices):
            right = int(word) == question.answer
            show(("Yes. " if right else f"No, it is {question.answer}. ") + question.solution)
            return right
        elif word in ("quit", "q", "exit"):
            show(f"It was {question.answer}. {question.solution}")
            return False
        elif word:
            show(f"{word!r} is no answer.\n{HELP}")


def _question(question: Hunt) -> str:
    lines = [f"npae has one bug now, in {question.place}. Which of these is it?"]
    lines += [filled(f"  {number}  {text}", 0, 5) for number, text in enumerate(question.choices, 1)]
    return "\n".join([*lines, HELP])


def rounds(room: str | None, seed: int, number: int, ask: Callable[[str], str], show: Callable[[str], None]) -> bool:
    """So many questions one after the other; whether every answer is right."""
    right = 0
    for place, question in enumerate(take(room, seed, number), 1):
        if number > 1:
            show(f"{'' if place == 1 else chr(10)}Question {place} of {number}")
        right += play(question, ask, show)
    if number > 1:
        show(f"\n{right} of {number} right")
    return right == number
