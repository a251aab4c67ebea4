"""IDX files: what is written comes back, and whatever is not exactly an IDX file is refused with an IDXError."""
import gzip
import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest

from npae.data import idx
from npae.data.idx import IDXError, parse, read_idx, write_idx

PICTURES = np.arange(3 * 5 * 4, dtype=np.uint8).reshape(3, 5, 4)
PLAIN = bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 4]) + PICTURES.tobytes()


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # so that the tests' names are the same every day


def read(data: bytes) -> np.ndarray:
    return parse(io.BytesIO(data), "file")[0]


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8", ">i2", ">f8"])
@pytest.mark.parametrize("shape", [(7,), (3, 2), (2, 3, 5), (2, 3, 5, 4)])
@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_what_is_written_comes_back(tmp_path, dtype, shape, name):
    array = (np.random.default_rng(0).standard_normal(shape) * 50 + 60).astype(dtype)
    write_idx(tmp_path / name, array)
    back = read_idx(tmp_path / name)
    assert back.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(back, array)


def test_the_bytes_are_those_of_the_format(tmp_path):
    write_idx(tmp_path / "x", PICTURES)
    assert (tmp_path / "x").read_bytes() == PLAIN
    write_idx(tmp_path / "y", np.array([1, -2], np.int16))
    assert (tmp_path / "y").read_bytes() == b"\0\0\x0b\x01\0\0\0\x02\0\x01\xff\xfe"


def test_a_transposed_array_is_written_in_its_own_order(tmp_path):
    write_idx(tmp_path / "x", PICTURES.T)
    np.testing.assert_array_equal(read_idx(tmp_path / "x"), PICTURES.T)


def test_equal_arrays_give_equal_gzip_bytes(tmp_path):
    write_idx(tmp_path / "a.gz", PICTURES)
    write_idx(tmp_path / "b.gz", PICTURES)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes()[4:8] == bytes(4)  # no time of writing


def test_gzip_is_seen_by_content_and_not_by_name(tmp_path):
    (tmp_path / "x").write_bytes(gzip.compress(PLAIN))
    (tmp_path / "y.gz").write_bytes(PLAIN)
    np.testing.assert_array_equal(read_idx(tmp_path / "x"), PICTURES)
    np.testing.assert_array_equal(read_idx(tmp_path / "y.gz"), PICTURES)


@pytest.mark.parametrize("data", [PLAIN, packed(PLAIN), gzip.compress(PLAIN, 0, mtime=0)])
def test_the_digest_is_that_of_the_uncompressed_content(data):
    assert parse(io.BytesIO(data), "file")[1] == hashlib.sha256(PLAIN).hexdigest()


@pytest.mark.parametrize(("data", "message"), [
    (b"", "within its header"),
    (PLAIN[:3], "within its header"),
    (PLAIN[:9], "within its header"),
    (b"\1" + PLAIN[1:], "magic number"),
    (b"\0\1" + PLAIN[2:], "magic number"),
    (b"\0\0\x0a" + PLAIN[3:], "magic number"),
    (b"<!DOCTYPE html><html>404</html>" * 20, "web page"),
    (b"\0\0\x08\0" + PLAIN[4:], "0 dimensions"),
    (b"\0\0\x08\x05" + PLAIN[4:], "5 dimensions"),
    (b"\0\0\x08\x02\0\0\0\0\0\0\0\x05", r"shape \(0, 5\)"),
    (PLAIN[:-1], "ends after 59 of the 60 bytes"),
    (PLAIN + b"\0", "goes on after the 60 bytes"),
    (b"\0\0\x08\x04" + b"\xff" * 16 + b"\0" * 99, "possible"),  # a product far beyond 64 bits
    (b"\0\0\x08\x04" + b"\0\1\0\0" * 4, "possible"),  # 2^64: a product that wraps to 0 in 64 bits
    (b"\0\0\x0e\x02" + b"\x20\0\0\0" * 2, "possible"),  # 2^58 numbers of 8 bytes
    (packed(b"\0\0\x08\1\x7f\xff\xff\xff"), "possible"),  # 2 GiB in 40 bytes
    (packed(PLAIN[:-1]), "ends after 59"),
    (packed(PLAIN + b"\0"), "goes on"),
    (packed(PLAIN)[:-9], "truncated"),
    (packed(PLAIN)[:-1], "truncated"),
    (packed(PLAIN)[:5], "truncated"),
    (packed(PLAIN) + b"\0", "follows its gzip stream"),
    (packed(PLAIN) + packed(b""), "follows its gzip stream"),
    (packed(PLAIN) + packed(b"surplus"), "follows its gzip stream"),
    (packed(PLAIN[:40]) + packed(PLAIN[40:]), "follows its gzip stream"),
    (packed(PLAIN)[:-8] + b"\0\0\0\0" + packed(PLAIN)[-4:], "damaged gzip"),
    (packed(b"<html>no</html>"), "web page"),
    (b"\x1f\x8b\x07" + b"\0" * 30, "damaged gzip"),
])
def test_what_is_not_exactly_idx_is_refused_with_a_reason(data, message):
    with pytest.raises(IDXError, match=message):
        read(data)


def test_what_follows_a_gzip_stream_is_seen_at_the_border_of_a_piece_too(monkeypatch):
    data = packed(PLAIN)
    monkeypatch.setattr(idx.store, "CHUNK", len(data))
    np.testing.assert_array_equal(read(data), PICTURES)
    with pytest.raises(IDXError, match="follows its gzip stream"):
        read(data + b"\0")


def test_the_message_names_the_file(tmp_path):
    (tmp_path / "broken").write_bytes(PLAIN[:-1])
    with pytest.raises(IDXError, match=r"broken is not a whole IDX file: .*\(3, 5, 4\)"):
        read_idx(tmp_path / "broken")


def test_a_file_that_is_absent_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")


def test_an_array_over_several_pieces_comes_back(tmp_path):
    array = np.random.default_rng(1).integers(0, 256, (3, 1 << 20), np.uint8)[:, 1:]
    for name in ("x", "x.gz"):
        write_idx(tmp_path / name, array)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


@pytest.mark.parametrize("array", [np.zeros((2, 0)), np.float64(1), np.zeros((1,) * 5), np.zeros(3, np.int64),
                                   np.zeros(3, bool), np.zeros(3, np.uint16), np.array([None])])
def test_what_idx_does_not_have_is_not_written(tmp_path, array):
    with pytest.raises(IDXError):
        write_idx(tmp_path / "x", array)
    assert list(tmp_path.iterdir()) == []


def test_a_short_gzip_file_cannot_claim_what_no_compression_reaches(tmp_path):
    """Deflate shrinks by 1032 at most: refused by its header, before anything is allocated."""
    data = gzip.compress(b"\0\0\x08\x01" + (1 << 20).to_bytes(4, "big") + bytes(1000))
    (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises(IDXError, match=rf"claims shape \(1048576,\), 1048576 bytes, where 1 to {len(data) * 1032} are"):
        read_idx(tmp_path / "x.gz")


def test_a_bomb_is_refused_in_bounded_memory(tmp_path):
    """150 MB of zeros in a short gzip file, behind a header of 60 bytes and behind a header that claims them all."""
    zeros = bytes(150 << 20)
    (tmp_path / "surplus.gz").write_bytes(gzip.compress(PLAIN + zeros, 1))
    (tmp_path / "claims.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\xff\xff\xff\xff" + zeros[:1000]))
    code = """
import resource, sys
from npae.data import idx
from npae.data.idx import IDXError, read_idx
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        read_idx(name)
    except IDXError as error:
        print("refused", end=" ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    pytest.importorskip("resource", reason="memory is measured with the module resource, which this system lacks")
    files = [str(tmp_path / name) for name in ("surplus.gz", "claims.gz")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    first, second, grown = done.stdout.split()
    assert first == second == "refused"
    assert int(grown) < 64 << 10  # kB


def test_real_mnist_is_read_with_its_shape(mnist_dir):
    labels = next(mnist_dir.glob("t10k-labels*"))
    array = read_idx(labels)
    assert array.shape == (10_000,) and array.dtype == np.uint8 and array.max() == 9
