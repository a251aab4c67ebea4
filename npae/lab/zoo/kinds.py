"""How the zoo is shown: its rooms by kind, and what a student did as a sentence that can stand alone.
"""
from __future__ import annotations

import importlib
import re
from functools import cache

from npae.lab import subjects, zoo
from npae.lab.planting import Bug

KINDS = {"layers": ("layers",), "losses and penalties": ("losses", "penalties"), "models": ("models",),
         "optimizers and training": ("optimizers", "data", "training", "callbacks", "resume"), "kernels": ("kernels",)}
"""kind -> the files of `npae.lab.subjects` that check it."""
VERB = re.compile(r"[a-z]+s (?!(is|are|has|have|was|comes?)\b)")  # "forgets the ½", but not "dlogits is divided"


@cache
def rooms(*kinds: str) -> tuple[str, ...]:
    """The rooms of these kinds, in the order of the zoo."""
    return tuple(room for room in dict.fromkeys(bug.room for bug in zoo.bugs()) if kind(room) in kinds)


@cache
def kind(room: str) -> str:
    """The kind of a room: that of its first bug."""
    subject = zoo.bugs(room)[0].subject
    for name, files in KINDS.items():
        if any(subject in importlib.import_module(f"npae.lab.subjects.{file}").SUBJECTS for file in files):
            return name
    raise ValueError(f"{room} is checked as {subject!r}, which is none of the {len(subjects.subjects())} subjects")


def sentence(bug: Bug) -> str:
    """What the student did, with a subject where the zoo leaves it out: "forgets the ½." is "It forgets the ½."."""
    return f"It {bug.did}" if VERB.match(bug.did) else bug.did


def markdown(text: str) -> str:
    """A text that Markdown leaves as it is, in a table too."""
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("*", "&#42;"), ("`", "&#96;")):
        text = text.replace(sign, entity)
    return text
