"""A million spoilt IDX files (fifty thousand every day): nothing but IDXError, no array that differs over gzip, bounded
memory, and no file that takes its time. One command: pytest -m slow tests/test_idx_fuzz.py
"""
import gzip
import io
import json
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from npae.data.idx import TYPES, IDXError, parse, read_idx, write_idx

SHAPES = ((60,), (5, 12), (3, 5, 4), (2, 3, 5, 2))
SECONDS = 2  # of processor time that one file may take


def originals():
    """(name, bytes, array): every type of number, one to four dimensions, plain and gzipped."""
    rng = np.random.default_rng(0)
    for i, (code, dtype) in enumerate(TYPES.items()):
        array = (rng.standard_normal(SHAPES[i % 4]) * 50 + 60).astype(dtype)
        dims = b"".join(n.to_bytes(4, "big") for n in array.shape)
        plain = bytes([0, 0, code, array.ndim]) + dims + array.tobytes()
        yield f"{dtype}", plain, array
        yield f"{dtype}.gz", gzip.compress(plain, i, mtime=0), array


ORIGINALS = list(originals())


def mutant(data: bytes, draw: random.Random) -> bytes:
    """One or two edits: a bit, a byte, the header, a cut, a hole, something doubled, appended, or packed once more."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 2))):
        i, j = sorted((draw.randrange(len(changed)), draw.randrange(len(changed))))
        match draw.randrange(10):
            case 0:
                changed[i] ^= 1 << draw.randrange(8)
            case 1:
                changed[i] = draw.choice((0, 1, 2, 4, 8, 127, 255))
            case 2:
                changed[i % 20 % len(changed)] = draw.randrange(256)
            case 3:
                del changed[i + 1:]
            case 4:
                del changed[i + 1:j]
            case 5:
                changed[i:i] = changed[i:j]
            case 6:
                changed += draw.randbytes(draw.randint(1, 8))
            case 7:  # a size of a dimension, often absurd
                at = 4 + 4 * draw.randrange(4)
                changed[at:at + 4] = draw.choice((0, 1, 2, 1 << 16, 1 << 31, (1 << 32) - 1)).to_bytes(4, "big")
            case 8:  # a bomb: many zeros behind it, or a second member
                changed = bytearray(gzip.compress(bytes(changed) + bytes(draw.randrange(1 << 12)), mtime=0))
            case _:
                changed += gzip.compress(bytes(changed[i:j]), mtime=0)
    return bytes(changed)


def repaired(data: bytes, draw: random.Random) -> bytes:
    """A gzip file with other content and a right CRC: the content alone can show that anything is wrong."""
    inflate = zlib.decompressobj(wbits=31)
    return gzip.compress(mutant(inflate.decompress(data), draw), 1, mtime=0)


def fuzz(n: int, seed: int) -> dict[str, float]:
    """How many were refused, read as they were, or read as another array, plain and over gzip, and the longest time.

    Any error but IDXError goes through.
    """
    draw = random.Random(seed)
    counts = {f"{what}, {kind}": 0 for what in ("refused", "same", "other") for kind in ("plain", "gzip", "repaired")}
    longest = 0.0
    for i in range(n):
        name, data, array = ORIGINALS[i % len(ORIGINALS)]
        kind = "plain" if not name.endswith(".gz") else "repaired" if draw.random() < 0.1 else "gzip"
        spoilt = repaired(data, draw) if kind == "repaired" else mutant(data, draw)
        start = time.thread_time()
        try:
            back = parse(io.BytesIO(spoilt), "file")[0]
        except IDXError:
            counts[f"refused, {kind}"] += 1
        else:
            native = array.dtype.newbyteorder("=")
            equal = back.shape == array.shape and back.dtype == native
            equal = equal and back.tobytes() == array.astype(native).tobytes()
            counts[f"{'same' if equal else 'other'}, {kind}"] += 1
        longest = max(longest, time.thread_time() - start)
    return {**counts, "longest": longest}


PROCESS = """
import json, resource, sys
sys.path.insert(0, {tests!r})
from test_idx_fuzz import fuzz
fuzz(200, 9)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = fuzz({n}, {seed})
print(json.dumps(dict(found, grown=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))
"""


@pytest.mark.parametrize("n", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_spoilt_files_are_refused_in_bounded_memory_and_time(n):
    """In a process of its own, so that its peak of memory is that of the reader."""
    pytest.importorskip("resource", reason="memory is measured with the module resource, which this system lacks")
    code = PROCESS.format(tests=str(Path(__file__).parent), n=n, seed=0)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(found[f"{what}, {kind}"] for what in ("refused", "same", "other")
               for kind in ("plain", "gzip", "repaired")) == n
    assert found["other, gzip"] == 0, "gzip's CRC sees what has changed"
    assert found["other, plain"] > 0 < found["same, gzip"], "the rest is what only a digest can see"
    assert found["refused, plain"] > 0.3 * n / 2 < found["refused, gzip"] and found["refused, repaired"] > 0
    assert found["grown"] < 64 << 10 and found["longest"] < SECONDS  # kB


def test_what_only_the_content_can_show_has_another_digest():
    """A changed pixel in a plain file, or under a right CRC, is another file to SHA-256: `mnist.read_verified` asks."""
    draw = random.Random(0)
    (_, plain, array), (_, packed, _) = (row for row in ORIGINALS if row[0] in ("uint8", "uint8.gz"))
    right, = {parse(io.BytesIO(data), "file")[1] for data in (plain, packed)}
    for _ in range(3000):
        spoilt = repaired(packed, draw) if draw.random() < 0.5 else mutant(plain, draw)
        try:
            back, digest = parse(io.BytesIO(spoilt), "file")
        except IDXError:
            continue
        same = back.dtype == array.dtype and back.shape == array.shape and np.array_equal(back, array)
        assert (digest == right) == same


def test_whatever_is_written_is_read_again_and_nothing_of_a_refused_array_stays(tmp_path):
    draw = np.random.default_rng(1)
    kinds = [*TYPES.values(), *map(np.dtype, ("u2", "i8", "?", "c8", "f2", "O", "U3"))]
    for i in range(300):
        shape = tuple(draw.integers(0 if i % 7 == 0 else 1, 5, draw.integers(0, 6)))
        kind = kinds[draw.integers(len(kinds))]
        array = np.asarray(draw.standard_normal(shape) * 100).astype(kind)
        array = array.T if draw.random() < 0.3 else array[::-1] if array.ndim and draw.random() < 0.3 else array
        path = tmp_path / f"{i}{'.gz' if i % 2 else ''}"
        try:
            write_idx(path, array)
        except IDXError:
            assert not list(tmp_path.iterdir())
            assert kind not in TYPES.values() or not 1 <= array.ndim <= 4 or 0 in array.shape
        else:
            back = read_idx(path)
            assert back.dtype == kind.newbyteorder("=")
            assert back.tobytes() == np.array(array, back.dtype, order="C").tobytes()
            path.unlink()
