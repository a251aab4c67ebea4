"""The zoo on trial: `python -m npae.lab.zoo [ROOM] [--markdown FILE] [--picture FILE] [--json FILE] [--jobs N]`.
Exit status 1 where a bug survives, or a part misses what it had to see.
"""
from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from npae import store
from npae.figures.files import save
from npae.figures.zoo import zoo_matrix
from npae.kernels import reference, resolve
from npae.lab import zoo
from npae.lab.zoo import matrix
from npae.lab.zoo.trial import PARTS


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m npae.lab.zoo", description="Put the bugs of the zoo on trial.")
    parser.add_argument("room", nargs="?", metavar="ROOM", help="a layer, loss, model, ... (default: all)")
    parser.add_argument("--markdown", metavar="FILE", help="write the matrix as tables")
    parser.add_argument("--picture", metavar="FILE", help="draw the matrix (PNG)")
    parser.add_argument("--json", metavar="FILE", help="write every trial with all that its report says")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except (ValueError, OSError) as error:
        print(f"npae.lab.zoo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    bugs, trials, start = zoo.bugs(args.room), [], time.perf_counter()
    compiled = sum(any(".kernels.fast" in edit.where for edit in bug.edits) for bug in bugs)
    if compiled and resolve() is reference:
        raise ValueError(f"{compiled} of these {len(bugs)} bugs are in compiled kernels, which cannot run here: name "
                         "another room, or mend what the warning tells")
    for t in matrix.run(bugs, args.jobs):
        trials.append(t)
        if sys.stderr.isatty() or len(trials) % 50 == 0:
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"{len(trials)} of {len(bugs)}, {time.perf_counter() - start:.0f} s", end=end, file=sys.stderr)
    print(f"{matrix.summary(trials)}\n{time.perf_counter() - start:.0f} s")
    if args.markdown is not None:
        seen = os.path.relpath(args.picture, os.path.dirname(args.markdown) or ".") if args.picture else ""
        store.write_text(args.markdown, matrix.as_markdown(trials, Path(seen).as_posix() if seen else ""))
    if args.picture is not None:
        save(zoo_matrix(matrix.columns(trials), list(PARTS.values())), args.picture)
    if args.json is not None:
        store.write_json(args.json, matrix.as_json(trials))
    return 0 if all(t.killed and t.as_foretold for t in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
