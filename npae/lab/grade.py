"""`npae grade`: learners' own layers, graded in stages with a hint where one fails; a folder of them gives a table.
It RUNS the submitted code, each file in a process of its own that is ended after a time limit. That keeps one
submission from stopping the others; it is no sandbox. Grade what you would also run yourself, or use a machine for it.
"""
from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from npae.lab.exercises import EXERCISES, Exercise, recognise

SECONDS = 60.0
CHUNK = 1 << 16
HOUSE = Path(__file__).resolve().parents[2]  # where the process of a submission finds npae


@dataclass(frozen=True)
class Stage:
    """One stage of one class: its points, and where they are missing what it looks like and, in a new line, a question
    that leads to it."""

    part: str
    name: str
    points: float
    of: float
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether the stage passed."""
        return self.points == self.of


@dataclass(frozen=True)
class Grade:
    """One exercise of one file; the exercise is None where the file has none. Remarks are sentences about the file."""

    student: str
    file: str
    exercise: Exercise | None
    stages: tuple[Stage, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def points(self) -> float:
        """Of all stages."""
        return sum(stage.points for stage in self.stages)

    @property
    def ok(self) -> bool:
        """Whether every stage passed."""
        return bool(self.stages) and all(stage.ok for stage in self.stages)

    @property
    def title(self) -> str:
        """The name of the exercise."""
        return self.exercise.stem if self.exercise else "no exercise"

    def stage(self, name: str) -> tuple[float, float] | None:
        """(points, out of) of one stage over all classes; None where the exercise has no such stage."""
        found = [stage for stage in self.stages if stage.name == name]
        return (sum(s.points for s in found), sum(s.of for s in found)) if found else None


def submissions(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """(student, file) of each file, and of each .py file in or below a folder; a student is called after the path.

    Raises ValueError: a path that is not there, a file that is no .py file, a folder without any.
    """
    found: dict[Path, str] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.rglob("*.py") if file.is_file()
                           and not any(part.startswith((".", "__")) for part in file.relative_to(path).parts))
            if not files:
                raise ValueError(f"there is no .py file in the folder {path}: nothing to grade")
            found |= {file: file.relative_to(path).with_suffix("").as_posix() for file in files}
        elif not path.exists():
            raise ValueError(f"there is no file {path}: nothing to grade")
        elif path.suffix != ".py":
            raise ValueError(f"{path} is no .py file: save a notebook as a script (jupytext --to py) and grade that")
        else:
            found[path] = path.stem
    return [(student, file) for file, student in found.items()]


def grade(paths: Sequence[str | Path], *, seconds: float = SECONDS) -> list[Grade]:
    """The grades of all submissions, in their order, as many at a time as there are cores. Runs the submitted code.

    Raises ValueError: as `submissions`; a time limit that is not above 0.
    """
    if not seconds > 0:
        raise ValueError(f"a submission needs more than 0 seconds, got {seconds:g}")
    files = submissions(paths)
    running: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(max_workers=min(len(files), os.cpu_count() or 1)) as pool:
        try:
            tasks = [pool.submit(_grade_file, student, file, seconds, running) for student, file in files]
            return [grade for task in tasks for grade in task.result()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                _end(process)


def _grade_file(student: str, file: Path, seconds: float, running: set[subprocess.Popen[bytes]]) -> list[Grade]:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        broken = ""
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" (line {error.lineno}: {error.msg})" if isinstance(error, SyntaxError) else f" ({error})"
        classes, broken = [], f"it is not Python{line}"
    exercises = recognise(classes, file.stem)
    if not exercises:
        known = ", ".join(part.kind for exercise in EXERCISES for part in exercise.parts)
        remark = broken or f"no exercise is recognised: it defines none of the classes {known}"
        return [Grade(student, str(file), None, remarks=(remark,))]
    facts, remarks = ([], [broken]) if broken else _run(file, exercises, seconds, running)
    return [_as_grade(student, file, exercise, facts, remarks) for exercise in exercises]


def _run(file: Path, exercises: Sequence[Exercise], seconds: float,
         running: set[subprocess.Popen[bytes]]) -> tuple[list[dict[str, Any]], list[str]]:
    """What the stages have told of a file, and remarks about how it behaved."""
    paths = [str(HOUSE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
                   "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told.jsonl")
        words = [sys.executable, "-m", "npae.lab.stages", str(file.resolve()), str(told)]
        process = subprocess.Popen([*words, *(str(e.number) for e in exercises)], cwd=folder, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        running.add(process)
        lines = [0]
        reader = threading.Thread(target=_count_lines, args=(process.stdout, lines), daemon=True)
        reader.start()
        remarks = []
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            remarks.append(f"it did not end within {seconds:g} seconds: look for a loop that never ends")
        _end(process)
        running.discard(process)
        reader.join(1)
        facts = list(_facts(told))
    remarks += [fact["remark"] for fact in facts if "remark" in fact and "part" not in fact]
    if not remarks and {"end": True} not in facts:
        remarks.append(f"it ended Python, with status {process.returncode}, before everything was graded")
    if lines[0]:
        remarks.append(f"it prints ({lines[0]:,} lines while it was graded): take that out")
    return facts, remarks


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a submission and whatever it has started, if it has not ended by itself."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own (start_new_session)
            else:
                process.kill()
        process.wait()


def _count_lines(stream: IO[bytes], lines: list[int]) -> None:
    """Read what is printed and forget it: a submission may print without end."""
    last = b"\n"
    with stream:
        while chunk := os.read(stream.fileno(), CHUNK):
            lines[0] += chunk.count(b"\n")
            last = chunk
    lines[0] += not last.endswith(b"\n")


def _facts(told: Path) -> Iterator[dict[str, Any]]:
    """What was written down before the process ended; a last line that was cut off is left out."""
    if told.exists():
        for line in told.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                fact = json.loads(line)
                if isinstance(fact, dict):
                    yield fact


def _as_grade(student: str, file: Path, exercise: Exercise, facts: Sequence[dict[str, Any]],
              remarks: Sequence[str]) -> Grade:
    stages, said = [], list(remarks)
    for part in exercise.parts:
        told = [fact for fact in facts if fact.get("part") == part.kind]
        said += [fact["remark"] for fact in told if "remark" in fact]
        by_stage = {fact["stage"]: fact for fact in told if "stage" in fact}
        for name, of in exercise.points(part).items():
            fact = by_stage.get(name, {"ok": False, "hint": "This stage was not reached." if by_stage else ""})
            stages.append(Stage(part.kind, name, of if fact["ok"] else 0.0, of, fact["hint"]))
    return Grade(student, str(file), exercise, tuple(stages), tuple(said))
