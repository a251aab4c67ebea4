"""What the demos share: their two flags, a folder for their pictures, and how a promise is kept or broken aloud."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from npae import data
from npae.data import Dataset


def begin(file: str, doc: str | None) -> tuple[Dataset, bool, Path]:
    """(the digits, whether the short form was asked for, the folder for pictures) of a demo; prints its question.

    --data NAME: strokes (the default, built in), or mnist ($NPAE_DATA names its folder); --short: the form that tests
    run. In a notebook there are no flags, and the defaults hold.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="strokes", help="strokes or mnist")
    parser.add_argument("--short", action="store_true", help="less data and less training")
    flags = parser.parse_args([] if "ipykernel" in sys.modules else None)
    folder = Path("demo-pictures", Path(file).stem)
    folder.mkdir(parents=True, exist_ok=True)
    print((doc or "").strip().splitlines()[0])
    return data.load(flags.data), flags.short, folder


def promised(what: str, measured: float, *, below: float | None = None, above: float | None = None) -> None:
    """Print a promise beside its measured number.

    Raises SystemExit: a broken promise.
    """
    limit, sign = (below, "<=") if below is not None else (above, ">=")
    assert limit is not None
    kept = measured <= limit if below is not None else measured >= limit
    line = f"{what}: {measured:.4g}, promised {sign} {limit:.4g}"
    if not kept:
        raise SystemExit(f"BROKEN PROMISE: {line}")
    print(line)
