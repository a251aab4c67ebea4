"""Compiled kernels on disk: damaged files, folders that cannot be written, and two types that are compiled at once.
The run that meets the damage compiles anew and gives the same numbers; the next one simply runs.
"""
import importlib.util
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numba import cfunc, config, njit, types
from numba.core import dispatcher
from numba.core.caching import FunctionCache

from npae.kernels import fast_parallel, kept

ROOT = Path(__file__).resolve().parent.parent
KERNEL = """
def kernel(x, y):
    for i in range(x.size):
        y[i] += 2 * x[i] + 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "one_kernel.py").write_text(KERNEL)
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))  # read anew at the next compiling, if any has changed
    monkeypatch.setattr(kept.KernelCache, "told", set())
    return tmp_path


def test_what_another_numba_or_another_source_has_kept_is_not_taken(tmp_path, monkeypatch):
    """The seal fits: the file is whole, and of another state."""
    kept.SealedFile(str(tmp_path), "kernel", "source").save("signature", "code")
    assert kept.SealedFile(str(tmp_path), "kernel", "source").load("signature") == "code"
    assert kept.SealedFile(str(tmp_path), "kernel", "another source").load("signature") is None
    monkeypatch.setattr("numba.core.caching.numba.__version__", "0.1")
    assert kept.SealedFile(str(tmp_path), "kernel", "source").load("signature") is None


def compiled(folder):
    """The kernel with nothing in memory, as a new process has it."""
    spec = importlib.util.spec_from_file_location("one_kernel", folder / "one_kernel.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with kept.sealed():
        return njit(cache=True)(module.kernel)


def run(folder, dtype=np.float32):
    """Runs the kernel; whether it came from the cache."""
    kernel, y = compiled(folder), np.zeros(5, dtype)
    kernel(np.arange(5, dtype=dtype), y)
    np.testing.assert_array_equal(y, [1, 3, 5, 7, 9])
    return sum(kernel.stats.cache_hits.values()) == 1


def files(folder):
    return sorted(path for path in (folder / "kept").rglob("*") if path.is_file())


def empty(path, draw):
    path.write_bytes(b"")


def cut(path, draw):
    data = path.read_bytes()
    path.write_bytes(data[:draw.randrange(1, len(data))])


def one_bit(path, draw):
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def zeros(path, draw):
    path.write_bytes(bytes(path.stat().st_size))


def noise(path, draw):
    path.write_bytes(draw.randbytes(path.stat().st_size))


def longer(path, draw):
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randint(1, 99)))


def gone(path, draw):
    path.unlink()


def a_folder(path, draw):
    path.unlink()
    (path / "inside").mkdir(parents=True)


def a_bare_pickle(path, draw):
    """As Numba's own cache has them: without a seal."""
    path.write_bytes(path.read_bytes()[kept.SEAL:])


DAMAGES = (empty, cut, one_bit, zeros, noise, longer, gone, one_bit, a_bare_pickle, cut)


FEW = [13 * i % 40 for i in range(10)]  # each kind of damage once


@pytest.mark.parametrize("i", [*FEW, *(pytest.param(i, marks=pytest.mark.slow) for i in range(40) if i not in FEW)])
def test_a_damaged_file_is_compiled_anew_and_then_all_is_well(i, folder):
    """Ten kinds of damage, to the index, to the data, and to both, with other bytes each time."""
    draw = random.Random(i)
    assert not run(folder) and run(folder)
    index, data = sorted(files(folder), key=lambda path: path.suffix != ".nbi")
    for path in ((index,), (data,), (index, data), (data,))[i // 10]:
        DAMAGES[i % 10](path, draw)
    assert not run(folder), "what was damaged is not taken"
    assert run(folder) and [path.suffix for path in files(folder)] == [".nbc", ".nbi"]


def test_nothing_is_unpickled_that_the_seal_does_not_fit(folder):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(folder / "canary"),)

    import pickle

    run(folder)
    for path in files(folder):
        path.write_bytes(bytes(kept.SEAL) + pickle.dumps(Evil()))
    assert not run(folder) and not (folder / "canary").exists()


def test_a_file_in_place_of_which_there_is_a_folder_is_told_once(folder):
    run(folder)
    for path in files(folder):
        a_folder(path, None)
    with pytest.warns(RuntimeWarning, match=r"cannot be kept in .*set \$NUMBA_CACHE_DIR to a folder") as caught:
        assert not run(folder)
        assert not run(folder, np.float64)
    assert len(caught) == 1


def test_a_folder_that_cannot_be_written_is_told_once_and_the_numbers_are_right(folder, monkeypatch):
    def full(*args, **settings):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(kept.SealedFile, "_open_for_write", full)
        with pytest.warns(RuntimeWarning, match=r"cannot be kept in .* \(No space left on device\)") as caught:
            assert not run(folder) and not run(folder, np.float64)
        assert len(caught) == 1 and not files(folder)
    assert not run(folder) and run(folder)


def test_two_processes_that_compile_two_types_at_once_do_not_take_each_others_file(folder):
    """Numba numbers the files of a function, and both would write number 1."""
    first, second = (compiled(folder)._cache._cache_file for _ in "ab")
    indexes = iter(({}, {}))  # what both have read before either writes
    for file, key in ((first, "float32"), (second, "float64")):
        file._load_index = lambda: next(indexes)
        os.makedirs(file._cache_path, exist_ok=True)
        file.save(key, f"code for {key}")
    for key in ("float32", "float64"):
        assert compiled(folder)._cache._cache_file.load(key) in (None, f"code for {key}")
    assert len(files(folder)) == 3


def test_an_index_of_another_version_of_the_source_is_none(folder):
    run(folder)
    (folder / "one_kernel.py").write_text(KERNEL.replace("+ 1", "+ 1 + 0"))
    os.utime(folder / "one_kernel.py", (1, 1))
    assert not run(folder) and run(folder)


def test_callbacks_of_c_are_kept_in_sealed_files_too_and_others_are_numbas_own(folder):
    module = compiled(folder).py_func
    with kept.sealed():
        callback = cfunc(types.void(types.float64[:], types.float64[:]), cache=True)(module)
    assert isinstance(callback._cache, kept.KernelCache) and len(files(folder)) == 2
    assert not isinstance(njit(cache=True)(module)._cache, kept.KernelCache)


def test_the_index_never_names_data_that_are_not_there(folder, monkeypatch):
    right, written = kept.SealedFile._write, []
    monkeypatch.setattr(kept.SealedFile, "_write",
                        lambda self, path, content: (written.append(Path(path).suffix), right(self, path, content)))
    run(folder)
    assert written == [".nbc", ".nbi"]


def test_what_numba_makes_of_a_whole_file_of_another_numba_is_no_crash(folder, monkeypatch):
    run(folder)

    def fails(self, sig, target_context):
        raise AttributeError("no such attribute in this version")

    with monkeypatch.context() as patch:
        patch.setattr(FunctionCache, "load_overload", fails)
        assert not run(folder)
    assert run(folder)


def test_threads_that_compile_at_once_do_not_undo_each_others_settings():
    """Else one of them would read the other's sealed file as Numba's own, or leave its folder behind in the setting."""
    users, at_once, inside = config.CACHE_DIR, threading.Barrier(4), []

    def compiles(i):
        at_once.wait()
        for _ in range(3):
            with fast_parallel._cached():
                time.sleep(0.001 * i)
                inside.append((dispatcher.FunctionCache, config.CACHE_DIR))

    threads = [threading.Thread(target=compiles, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [(kept.KernelCache, str(fast_parallel.CACHE))] * 12
    assert users == config.CACHE_DIR and dispatcher.FunctionCache is not kept.KernelCache


AMID_COMPILING = """
import os, threading
from npae.kernels import fast_parallel
holds, done = threading.Event(), threading.Event()
def compiles():
    with fast_parallel._cached():
        holds.set()
        done.wait(0.3)
thread = threading.Thread(target=compiles)
thread.start()
holds.wait()
if os.fork() == 0:
    with fast_parallel._cached():
        os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_fork_does_not_wait_for_a_thread_that_was_compiling():
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", AMID_COMPILING],
                          capture_output=True, text=True, check=True, cwd=ROOT, timeout=300)
    assert done.stdout.split() == ["7"]


def test_where_kernels_are_kept_is_the_first_place_that_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    assert kept.writable([tmp_path / "a", tmp_path / "b"], "k") == tmp_path / "a" / "k"
    assert kept.writable([tmp_path / "file" / "a", Path("/proc/npae"), tmp_path / "b"], "k") == tmp_path / "b" / "k"


NOWHERE = """
import os, warnings
from pathlib import Path
from npae.kernels import fast_parallel, kept
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    own = kept.writable([Path("/proc/npae"), Path("/dev/null/a")], "k")
assert own.is_dir() and len(caught) == 1, caught
if os.fork() == 0:
    raise SystemExit  # a child that ends does not take the folder along
os.wait()
assert own.is_dir()
print(own, caught[0].message)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_without_any_place_it_is_a_folder_of_the_processes_own_and_removed_at_its_end():
    done = subprocess.run([sys.executable, "-c", NOWHERE], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    own, message = done.stdout.strip().split(" ", 1)
    assert not Path(own).exists() and "cannot be kept in /proc/npae nor in /dev/null/a (Not a directory)" in message


# -- all kernels, in processes of their own --

STEP = """
import json, sys, warnings
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from npae import losses, models, nets, optim
    from npae.kernels import fast, resolve
    model = models.VAE(nets.mlp_encoder((4, 4, 1), [5, 4], rng=0), nets.mlp_decoder((4, 4, 1), [2, 5], rng=1))
    terms = model.loss(np.full((3, 4, 4, 1), 0.25, np.float32), rng=np.random.default_rng(0))
    model.backward()
    optim.SGD(0.5).step(model.theta, model.grad)
sums = terms["loss"], float(model.theta.astype(float).sum()), resolve() is fast
print(json.dumps({"sums": sums, "warnings": sorted({str(w.message) for w in caught})}))
"""


def step(**environment):
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=False, cwd=ROOT,
                          env={**os.environ, **environment}, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache of its own with the kernels of STEP, and what it computes."""
    place = tmp_path_factory.mktemp("warm")
    found = step(NUMBA_CACHE_DIR=str(place))
    assert found == step(NUMBA_CACHE_DIR=str(place)) and found["sums"][2] and not found["warnings"]
    return place, found


def spoil(place, i):
    draw = random.Random(i)
    there = sorted(path for path in place.rglob("*.nb?") if path.is_file())
    for path in there if i < 2 else draw.sample(there, 5):
        (cut if i == 0 else one_bit if i == 1 else draw.choice(DAMAGES))(path, draw)


@pytest.mark.slow
@pytest.mark.parametrize("i", range(5))
def test_a_damaged_cache_of_all_kernels_heals(i, warm):
    """Every file cut, a bit changed in every file, and three mixtures."""
    place, wanted = warm
    spoil(place, i)
    assert step(NUMBA_CACHE_DIR=str(place))["sums"] == wanted["sums"]
    assert step(NUMBA_CACHE_DIR=str(place)) == wanted


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_one_warning_and_the_same_numbers(warm):
    found = step(NUMBA_CACHE_DIR="/proc/npae")
    assert found["sums"] == warm[1]["sums"] and len(found["warnings"]) == 1
    assert "compiled kernels cannot be kept in /proc/npae" in found["warnings"][0]
