"""JSON that comes back as it was: no NaN, no doubled keys, no keys that are numbers."""
import json
import math
from pathlib import Path
from typing import Any

from npae.store.errors import StoreError
from npae.store.files import write_text


def write_json(path: str | Path, obj: Any) -> None:
    """Write a JSON file atomically, indented; StoreError for what JSON cannot hold exactly (NaN, keys of numbers)."""
    check_json(obj, "the object")
    write_text(path, json.dumps(obj, indent=2) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file strictly: StoreError for anything that is not JSON, NaN and doubled keys included."""
    data = Path(path).read_bytes()
    try:
        return from_json(data)
    except StoreError as error:
        raise StoreError(f"{path} is refused: {error}") from None


def check_json(obj: Any, where: str) -> None:
    """Refuse what `json` would change on the way (keys that are numbers) or cannot hold (NaN, NumPy scalars)."""
    if isinstance(obj, dict):
        for key, value in obj.items():
            if not isinstance(key, str):
                raise StoreError(f"{where} has the key {key!r}, and keys must be strings")
            check_json(value, f"{where}[{key!r}]")
    elif isinstance(obj, list | tuple):
        for i, value in enumerate(obj):
            check_json(value, f"{where}[{i}]")
    elif not (obj is None or type(obj) in (bool, int, str) or (isinstance(obj, float) and math.isfinite(obj))):
        raise StoreError(f"{where} is {type(obj).__name__} {str(obj)[:40]!r}, which JSON cannot hold: "
                         "use str, int, bool, None or a finite float")


def from_json(data: bytes) -> Any:
    """What JSON bytes say; StoreError where they are not strictly JSON."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_no_doubles, parse_constant=_no_constant,
                          parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"its JSON is not readable: {error}") from None


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("an object has one key twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is more than a float holds")
    return number
