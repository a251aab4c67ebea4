"""Lay the results of benchmarks down in README.md, each between its two marks:

    python benchmarks/readme.py RESULT.json ... [--check]

A result is what a benchmark wrote with --json; the text is what its markdown() makes of it. With --check nothing is
written: the script fails where the README says something else.
"""
from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npae import store

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"


def marks(name: str) -> tuple[str, str]:
    """The lines around the text of a benchmark."""
    return f"<!-- {name}: made by benchmarks/{name}.py -->\n", f"<!-- end of {name} -->\n"


def filled(readme: str, name: str, text: str) -> str:
    """The README with this text between the marks of that benchmark.

    Raises ValueError: not exactly one pair of marks, in this order.
    """
    begin, end = marks(name)
    if (counts := (readme.count(begin), readme.count(end))) != (1, 1) or readme.index(begin) > readme.index(end):
        raise ValueError(f"the text of {name} goes between one {begin.strip()} and one {end.strip()} after it, and the "
                         f"README has {counts[0]} and {counts[1]}: put these two lines where the text belongs")
    before, rest = readme.split(begin)
    return before + begin + text.rstrip("\n") + "\n" + end + rest.split(end)[1]


def text_of(result: Mapping[str, Any]) -> str:
    """What the benchmark's own markdown() says.

    Raises ValueError: a file that no benchmark here wrote.
    """
    name = result.get("benchmark")
    if not isinstance(name, str) or not name.isidentifier() or not (HERE / f"{name}.py").is_file():
        raise ValueError(f"a result names the benchmark that made it, one of benchmarks/*.py, got {name!r}: write the "
                         "file with that benchmark's --json")
    return importlib.import_module(name).markdown(result)


def main() -> None:
    """Fill README.md, or look whether it is filled."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the README says something else")
    parser.add_argument("--readme", type=Path, default=README, help="another file (default: README.md)")
    chosen = parser.parse_args()
    old = new = chosen.readme.read_text(encoding="utf-8")
    for path in chosen.results:
        result = json.loads(path.read_text(encoding="utf-8"))
        new = filled(new, result.get("benchmark"), text_of(result))
    if chosen.check and new != old:
        raise SystemExit(f"{chosen.readme} does not say what these results say: run this again without --check")
    if not chosen.check:
        with store.atomic(chosen.readme) as file:
            file.write(new.encode())


if __name__ == "__main__":
    main()
