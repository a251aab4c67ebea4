"""The store: what is written comes back bit for bit, a crash leaves the old file, and nothing else is ever read."""
import errno
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from npae import store
from npae.store import StoreError, archive, files

ARRAYS = {"encoder.0.W": np.arange(12, dtype=np.float32).reshape(3, 4), "step": np.array(7), "empty": np.zeros((0, 3)),
          "mask": np.array([True, False]), "z": np.array([1 + 2j]), "half": np.array([[0.5]], np.float16)}
META = {"version": 1, "shape": [28, 28, 1], "best": None, "rate": 0.1, "text": "größer \ud800",
        "nested": {"a": [True, {}]}}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "weights.npz"
    store.write(file, ARRAYS, META)
    return file


def assert_equal(got, expected):
    arrays, meta = got
    assert meta == expected[1]
    assert list(arrays) == list(expected[0])
    for name, array in expected[0].items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_arrays_and_meta_come_back(path):
    assert_equal(store.read(path), (ARRAYS, META))


@pytest.mark.parametrize("code", list(store.DTYPES))
@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (2, 0), (2, 3, 1, 2)])
def test_every_dtype_and_shape_comes_back_also_through_numpy(tmp_path, code, shape):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(code)
    store.write(tmp_path / "x.npz", {"a.b": array}, {})
    assert_equal(store.read(tmp_path / "x.npz"), ({"a.b": array}, {}))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as loaded:
        assert loaded["a.b"].dtype == array.dtype
        np.testing.assert_array_equal(loaded["a.b"], array)


def test_nan_infinity_and_negative_zero_in_arrays_come_back_bit_for_bit(tmp_path):
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    store.write(tmp_path / "x.npz", {"a": array}, {})
    assert store.read(tmp_path / "x.npz")[0]["a"].tobytes() == array.tobytes()


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3).T, np.arange(9)[::2], np.arange(3, dtype=">i4")])
def test_any_memory_order_is_stored_as_c_order_little_endian(tmp_path, array):
    store.write(tmp_path / "x.npz", {"a": array}, {})
    back = store.read(tmp_path / "x.npz")[0]["a"]
    np.testing.assert_array_equal(back, array)
    assert back.flags.c_contiguous and back.flags.writeable and back.dtype == array.dtype.newbyteorder("<")


def test_an_array_over_several_pieces_comes_back(tmp_path):
    array = np.random.default_rng(0).random(400_001)
    store.write(tmp_path / "x.npz", {"a": array}, {})
    np.testing.assert_array_equal(store.read(tmp_path / "x.npz")[0]["a"], array)


def test_equal_content_gives_equal_bytes(path, tmp_path):
    store.write(tmp_path / "again.npz", ARRAYS, META)
    assert path.read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_the_bytes_of_a_small_file_are_pinned(tmp_path):
    """Files of this release must be readable by every later one, and must not depend on NumPy's or Python's release."""
    store.write(tmp_path / "x.npz", {"W": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"epoch": 3})
    digest = hashlib.sha256((tmp_path / "x.npz").read_bytes()).hexdigest()
    assert digest == "e1ef9a448ea240cd4f4a4bb9a92d0dfd7f6de81d68eb7b50bf8d20993079b609"


@pytest.mark.parametrize("name", ["", "/abs", "../up", "a/b", "a..b", ".a", "a.", "a b", "é", "a\\b", "C:x", "a\n"])
def test_a_name_that_could_be_a_path_is_not_written(tmp_path, name):
    with pytest.raises(StoreError, match="array name"):
        store.write(tmp_path / "x.npz", {name: np.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("array", [np.array([None]), np.array(["a"]), np.zeros(2, np.dtype([("a", "f4")])),
                                   np.zeros(1, np.longdouble), np.zeros(1, "M8[s]")])
def test_an_array_of_anything_but_plain_numbers_is_not_written(tmp_path, array):
    with pytest.raises(StoreError, match="dtype"):
        store.write(tmp_path / "x.npz", {"a": array}, {})


@pytest.mark.parametrize(("meta", "message"), [
    ({"loss": [1.0, float("nan")]}, r"meta\['loss'\]\[1\] is float 'nan'"),
    ({"a": float("inf")}, "is float 'inf'"),
    ({"a": {3: 1}}, r"meta\['a'\] has the key 3"),
    ({"a": np.float32(1)}, r"meta\['a'\] is float32 '1.0'"),
    ({"a": np.zeros(2)}, "JSON cannot hold"),
    ({"a": {1, 2}}, "JSON cannot hold"),
])
def test_a_meta_that_would_not_come_back_is_not_written(tmp_path, meta, message):
    with pytest.raises(StoreError, match=message):
        store.write(tmp_path / "x.npz", {}, meta)
    with pytest.raises(StoreError, match=r"JSON cannot hold|must be strings"):
        store.write_json(tmp_path / "x.json", meta)
    assert list(tmp_path.iterdir()) == []


# -- refusals --


def members(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, change, **how):
    """The file with its members changed by a function on their dict, with the manifest parsed."""
    parts = members(path)
    manifest = json.loads(parts.pop("manifest.json"))
    change(parts, manifest)
    with zipfile.ZipFile(path, "w", **how) as archive:
        if manifest is not None:
            archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def entry(manifest, name="encoder.0.W"):
    return manifest["arrays"][name]


def huge(parts, manifest):
    """A header and a manifest that agree on 32 GiB, in a member of a few bytes."""
    parts["encoder.0.W.npy"] = archive._npy_header(np.dtype("f8"), (65536, 65536)) + b"12345678"
    entry(manifest).update(shape=[65536, 65536], dtype="<f8")


def wrapping(parts, manifest):
    """A shape of 2^64 elements, a product that is 0 in 64 bits."""
    parts["encoder.0.W.npy"] = archive._npy_header(np.dtype("u1"), (2 ** 32, 2 ** 32))
    entry(manifest).update(shape=[2 ** 32, 2 ** 32], dtype="|u1", sha256=hashlib.sha256().hexdigest())


def too_wide(parts, manifest):
    """An empty array with one dimension that no array can have."""
    parts["encoder.0.W.npy"] = archive._npy_header(np.dtype("u1"), (0, 2 ** 70))
    entry(manifest).update(shape=[0, 2 ** 70], dtype="|u1", sha256=hashlib.sha256().hexdigest())


def objects(parts, manifest):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}]), allow_pickle=True)
    parts["encoder.0.W.npy"] = buffer.getvalue()
    entry(manifest).update(shape=[1], dtype="|O")


def outside(parts, manifest):
    parts["../escape.npy"] = parts.pop("encoder.0.W.npy")
    manifest["arrays"]["../escape"] = manifest["arrays"].pop("encoder.0.W")


CHANGES = {
    "a missing member": (lambda p, m: p.pop("mask.npy"), "differ in .*mask"),
    "an extra member": (lambda p, m: p.update({"extra.npy": b""}), "differ in .*extra"),
    "an extra file": (lambda p, m: p.update({"evil.py": b"print()"}), "differ in .*evil"),
    "an array that the manifest lacks": (lambda p, m: m["arrays"].pop("mask"), "differ in .*mask"),
    "one number changed": (lambda p, m: p.update({"mask.npy": p["mask.npy"][:-1] + b"\1"}), "SHA-256"),
    "another digest": (lambda p, m: entry(m).update(sha256="0" * 64), "SHA-256"),
    "another shape of equal size": (lambda p, m: entry(m).update(shape=[4, 3]), "header"),
    "another dtype of equal size": (lambda p, m: entry(m).update(dtype="<i4"), "header"),
    "a shorter member": (lambda p, m: p.update({"mask.npy": p["mask.npy"][:-1]}), "needs 130 bytes"),
    "a longer member": (lambda p, m: p.update({"mask.npy": p["mask.npy"] + b"0"}), "needs 130 bytes"),
    "a shape of booleans": (lambda p, m: entry(m).update(shape=[True, 12]), "shape"),
    "a negative shape": (lambda p, m: entry(m).update(shape=[-3, -4]), "shape"),
    "a shape of strings": (lambda p, m: entry(m).update(shape=["3", "4"]), "shape"),
    "a shape that is a number": (lambda p, m: entry(m).update(shape=12), "shape"),
    "a dtype that is a list": (lambda p, m: entry(m).update(dtype=["<f4"]), "dtype"),
    "an unknown key": (lambda p, m: entry(m).update(more=1), "entry"),
    "an entry that is no object": (lambda p, m: m["arrays"].update({"mask": 3}), "entry"),
    "another format": (lambda p, m: m.update(format="npae store 2"), "manifest is not that"),
    "an extra part": (lambda p, m: m.update(code="import os"), "manifest is not that"),
    "a meta that is a list": (lambda p, m: m.update(meta=[1]), "manifest is not that"),
    "a claim of 32 GiB": (huge, "needs 34359738496 bytes, its member has 136"),
    "a product that wraps": (wrapping, "needs 18446744073709551"),
    "an impossible dimension": (too_wide, "."),
    "objects": (objects, "never stored"),
    "a name that leads out": (outside, "no proper entry"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_that_differs_from_what_write_makes_is_refused(path, what):
    change, message = CHANGES[what]
    with pytest.raises(StoreError, match=message) as caught:
        store.read(rewritten(path, change))
    assert str(path) in str(caught.value)


def test_a_compression_bomb_is_refused_before_it_is_unpacked(path):
    rewritten(path, lambda p, m: p.update({"mask.npy": bytes(100 << 20)}), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(StoreError, match="claim more bytes"):
        store.read(path)


def test_compressed_members_are_refused_however_long_the_file_is(path):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(bytes(100_000) + path.read_bytes())
    with pytest.raises(StoreError, match="it has compressed members, and none is written so"):
        store.read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_member_is_refused(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mask.npy", b"")
    with pytest.raises(StoreError, match="two members of one name"):
        store.read(path)


@pytest.mark.parametrize("text", ['{"format": "npae store 1", "arrays": {}, "meta": {"a": NaN}}', "[" * 100_000, "{",
                                  '{"format": "npae store 1", "arrays": {}, "meta": {"a": 1e999}}',
                                  '{"format": "npae store 1", "arrays": {}, "meta": {}, "meta": {"a": 1}}', "[]", "3"])
def test_a_manifest_that_is_not_strict_json_is_refused(path, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", text)
    with pytest.raises(StoreError):
        store.read(path)


def test_a_plain_npz_without_manifest_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(StoreError, match="no manifest"):
        store.read(tmp_path / "x.npz")


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all", bytes(1000), b"PK\5\6" + bytes(18)])
def test_what_is_no_zip_is_refused(tmp_path, data):
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(StoreError):
        store.read(tmp_path / "x.npz")


def test_every_truncation_is_refused(path):
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(StoreError):
            store.read(path)


def test_a_file_that_is_absent_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        store.read(tmp_path / "nothing.npz")


def test_a_folder_that_is_absent_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder \S+runs for a.npz: make it"):
        store.write(tmp_path / "runs" / "a.npz", {"a": np.zeros(3)}, {})


def edited(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        i, j = sorted((draw.randrange(len(changed)), draw.randrange(len(changed))))
        i = draw.choice((i, max(0, len(changed) - 1 - i % 700)))  # the central directory, at the end, twice as often
        match draw.randrange(6):
            case 0 | 1:
                changed[i] ^= 1 << draw.randrange(8)
            case 2:
                changed[i] = draw.choice((0, 1, 8, 255))
            case 3:
                del changed[i + 1:i + 1 + draw.randrange(20)]
            case 4:
                changed[i:i] = changed[i:j][:draw.choice((1, 30, 10_000))]
            case _:
                changed += draw.randbytes(draw.randint(1, 40))
    return bytes(changed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("n", [500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_no_mutant_of_a_file_is_read_as_something_else(path, n):
    """Only StoreError comes out; what is read all the same is equal to the bit (zip has bytes that mean nothing)."""
    data, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(n):
        path.write_bytes(edited(data, draw))
        try:
            got = store.read(path)
        except StoreError:
            refused += 1
        else:
            assert_equal(got, (ARRAYS, META))
    assert refused > n / 2


# -- atomic replacement --


class FailingFile(io.BufferedRandom):
    """A file of which the Nth write fails."""

    left = 0

    def write(self, data):
        FailingFile.left -= 1
        if FailingFile.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EINTR, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_when_a_system_call_fails_the_old_or_the_new_file_is_there_and_no_temporary_one(path, monkeypatch, call, code):
    new = {"encoder.0.W": np.ones(3)}
    real, failed = getattr(os, call), 0
    for nth in range(1, 5):
        calls = 0

        def failing(*args, nth=nth, **kwargs):
            nonlocal calls
            calls += 1
            if calls == nth:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                store.write(path, new, {})
            except OSError as error:
                assert error.errno == code
                failed += 1
                after_replace = call == "open" or nth == 2  # the folder's open and fsync come when the new file stands
                assert_equal(store.read(path), (new, {}) if after_replace and call != "replace" else (ARRAYS, META))
            else:
                assert_equal(store.read(path), (new, {}))
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        store.write(path, ARRAYS, META)
    assert failed == {"open": 1, "fsync": 2, "replace": 1}[call]


def test_when_any_write_fails_the_old_file_is_there_and_no_temporary_one(path, monkeypatch):
    def failing_open(name, mode):
        return FailingFile(io.FileIO(name, mode.replace("b", "")))

    for nth in range(1, 100):
        FailingFile.left = nth
        try:
            with monkeypatch.context() as patch:
                patch.setattr(files, "open", failing_open, raising=False)
                store.write(path, {"encoder.0.W": np.ones(3)}, {})
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert_equal(store.read(path), (ARRAYS, META))
            assert [file.name for file in path.parent.iterdir()] == [path.name]
        else:
            break
    assert 5 < nth < 99


def test_the_order_is_write_fsync_replace_fsync_of_the_folder(path, monkeypatch):
    calls = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd):
        calls.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "fsync file")
        real_fsync(fd)

    def replace(a, b):
        with zipfile.ZipFile(a) as archive:  # it is whole before it takes the place
            assert archive.testzip() is None
        calls.append("replace")
        real_replace(a, b)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc/self/fd to tell a file from a folder")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    store.write(path, ARRAYS, META)
    assert calls == ["fsync file", "replace", "fsync folder"]


def test_nothing_waits_in_a_buffer_when_a_file_is_put_on_the_disk(tmp_path, monkeypatch):
    sizes, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (sizes.append(os.fstat(fd).st_size), real(fd)))
    store.write_text(tmp_path / "x.txt", "text")
    assert sizes[0] == 4


def test_a_full_disk_at_any_size_leaves_the_old_file(path):
    """The limit on file size stands in for a full disk, at 40 sizes."""
    pytest.importorskip("resource", reason="the limit on file sizes is set with the module resource, absent here")
    code = """
import resource, sys
import numpy as np
from npae import store
path, sizes = sys.argv[1], range(1, 2001, 50)
old = open(path, "rb").read()
for size in sizes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        store.write(path, {"a": np.zeros(300)}, {})
    except OSError:
        assert open(path, "rb").read() == old
    else:
        sys.exit("written beyond the limit")
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("kills", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_killed_while_saving_the_file_is_old_or_new_and_what_was_acknowledged_is_there(tmp_path, kills):
    path = tmp_path / "x.npz"
    code = """
import sys
import numpy as np
from npae import store
k = int(sys.argv[2])
while True:
    k += 1
    store.write(sys.argv[1], {"a": np.full(100_000, k)}, {"k": k})
    print(k, flush=True)
"""
    draw, last = random.Random(0), 0
    for _ in range(kills):
        command = [sys.executable, "-c", code, str(path), str(last)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        first = process.stdout.readline()
        time.sleep(draw.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        acknowledged = int(([first, *process.communicate()[0].splitlines()])[-1])
        arrays, meta = store.read(path)
        assert meta["k"] in (acknowledged, acknowledged + 1) and (arrays["a"] == meta["k"]).all()
        last = meta["k"]
    store.remove_orphans(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]


def test_orphans_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    def temporary(host, pid):
        return tmp_path / f".npae-{host}-{pid}-00.tmp"

    orphan, alive = temporary(files.HOST, dead.pid), temporary(files.HOST, os.getpid())
    elsewhere = temporary("00000000", dead.pid)  # of a process of another machine, which may well be alive
    for file in (orphan, alive, elsewhere, tmp_path / "other.tmp", temporary(files.HOST, "x")):
        file.touch()
    assert store.remove_orphans(tmp_path) == [orphan]
    assert not orphan.exists() and len(list(tmp_path.iterdir())) == 4


def test_a_process_that_may_not_be_asked_lives(tmp_path, monkeypatch):
    """One of another user."""
    def kill(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    (tmp_path / f".npae-{files.HOST}-17-00.tmp").touch()
    assert store.remove_orphans(tmp_path) == [] and len(list(tmp_path.iterdir())) == 1


def test_an_interrupt_within_the_block_leaves_the_old_file(tmp_path):
    store.write_text(tmp_path / "x", "old")
    with pytest.raises(KeyboardInterrupt), store.atomic(tmp_path / "x") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert (tmp_path / "x").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    store.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize("name", ["with spaces", "größe", "l" * 250, "-dash"])
def test_awkward_file_names_are_written(tmp_path, name):
    store.write_text(tmp_path / name, "x")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_new_file_has_the_rights_of_any_other(tmp_path):
    store.write_text(tmp_path / "x", "")
    (tmp_path / "y").write_text("")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_json_comes_back(tmp_path):
    store.write_json(tmp_path / "x.json", META)
    assert store.read_json(tmp_path / "x.json") == META
    assert (tmp_path / "x.json").read_text().endswith("}\n")


@pytest.mark.parametrize("text", ["", "{", '{"a": 1, "a": 2}', "NaN", "1e999", '{"a": Infinity}', "\xff",
                                  "[" * 100_000, "1 2"])
def test_json_that_is_not_strict_is_refused_with_the_path(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=r"x\.json is refused"):
        store.read_json(tmp_path / "x.json")
