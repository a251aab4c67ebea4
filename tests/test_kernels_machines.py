"""Other machines: no compiler, no threads, no AVX-512. Each in a process of its own, since Numba is told at its start.

NUMBA_CPU_NAME alone leaves the vector instructions of the machine at hand switched on; an empty NUMBA_CPU_FEATURES
takes them away, so that what remains is what that processor has.
"""
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from npae import kernels, runs
from npae.kernels import fast, fast_link, reference

ROOT = Path(__file__).resolve().parent.parent
KERNEL_TESTS = ("test_kernels.py", "test_kernels_fuzz.py", "test_kernels_ulps.py", "test_kernels_nan.py",
                "test_kernels_training.py")
THE_WARNING = "RuntimeWarning: npae computes with its textbook kernels, many times slower than the fast ones, since "


def start(*words, **environment):
    return subprocess.Popen([sys.executable, *map(str, words)], env={**os.environ, **environment}, text=True, cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(process, seconds=120):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err + out
    return out, err


# ---- where the fast kernels cannot run


STEPS = """
import sys
import numpy as np
from npae import cli, data, kernels, models, recipes
kernels.set_threads(1000)  # there are none to be set, so that none are too many
from npae.kernels import reference
assert kernels.resolve() is kernels.resolve() is reference and kernels.resolve(kernels) is kernels
strokes = data.load("strokes")
x = np.divide(strokes.train_x[:3], 255, dtype=np.float32)
for name in ("conv-ae", "conv-vae", "mlp-vae", "tied-ae", "bernoulli-vae"):
    recipe = recipes.get(name)
    settings = recipe.parse({})
    recipe.adapt(settings, strokes)
    model = recipe.build(settings, strokes, np.random.default_rng(0))
    loss = model.loss(np.ceil(x - np.float32(0.5)), rng=np.random.default_rng(1))["loss"]
    model.backward()
    recipe.optimizer(settings).step(model.theta, model.grad)
    print(name, loss, float(np.abs(model.grad).sum(dtype=float)), float(np.abs(model.theta).sum(dtype=float)))
if sys.argv[1:]:
    from npae.lab.zoo.__main__ import main as zoo
    assert cli.main(["list"]) == cli.main(["gradcheck", "Flatten"]) == 0
    assert zoo(["fast_dense"]) == 2
"""


def warns_once(err):
    assert err.count(THE_WARNING + "NUMBA_DISABLE_JIT is set: unset it") == 1 == err.count("Warning"), err


def test_without_the_compiler_every_model_learns_on_the_textbook_with_one_warning():
    without = start("-c", STEPS, "and commands", NUMBA_DISABLE_JIT="1")
    fast_ones = start("-c", STEPS.replace("1000", "1").replace(".resolve() is reference", ".resolve()"))
    (out, err), (expected, quiet) = said(without), said(fast_ones)
    warns_once(err)
    assert "bugs are in compiled kernels, which cannot run here: name another room" in err
    assert "Warning" not in quiet and "every gradient is right" in out
    numbers, wanted = ([line.split() for line in text.splitlines()[:5]] for text in (out, expected))
    for (name, *got), (other, *want) in zip(numbers, wanted, strict=True):
        assert name == other and list(map(float, got)) == pytest.approx(list(map(float, want)), rel=1e-4)


@pytest.mark.slow
def test_without_the_compiler_commands_work(tmp_path):
    """On a run that the fast kernels have trained."""
    folder = tmp_path / "ae"
    runs.run("ae", out=str(folder), given={"epochs": "1", "pictures": "200"})
    train = ["train", "ae", "--epochs", "1", "--set", "pictures=200", "--out", tmp_path / "another"]
    for words, last in ((train, "The pictures are in "), (["eval", folder], "pictures"), (["figures", folder], ".png"),
                        (["gradcheck", "Dense"], "every gradient is right")):
        out, err = said(start("-m", "npae", *words, NUMBA_DISABLE_JIT="1"))
        warns_once(err)
        assert last in out.splitlines()[-1]


NOT_THERE = """
import sys
sys.modules["{}"] = None
from npae import kernels
kernels.set_threads(2)
assert kernels.resolve().__name__ == "npae.kernels.reference"
"""


@pytest.mark.parametrize("missing", ["numba", "llvmlite.binding"])
def test_what_cannot_be_imported_is_done_without(missing):
    out, err = said(start("-c", NOT_THERE.format(missing)))
    assert err.count(THE_WARNING + "they raise ") == 1 == err.count("Warning") and not out
    assert missing in err and err.rstrip().count("\n") <= 1


@pytest.mark.skipif(importlib.util.find_spec("tbb") is not None, reason="this machine has that threading layer")
@pytest.mark.parametrize("cold", [False, True], ids=["warm cache", "cold cache"])
def test_without_a_threading_layer_the_textbook_is_taken(cold, tmp_path):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)} if cold else {}
    _, err = said(start("-c", NOT_THERE.format("none"), NUMBA_THREADING_LAYER="tbb", **environment))
    assert err.count(THE_WARNING + "they raise ValueError (No threading layer could be loaded.)") == 1, err


def test_a_tile_that_does_not_compile_is_asked_for_once(monkeypatch):
    asked = []

    def ready(dtype):
        asked.append(dtype)
        raise RuntimeError("LLVM ERROR: no such register\n  and much more")

    monkeypatch.setattr(fast_link, "ready", ready)
    kernels._best.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"they raise RuntimeError \(LLVM ERROR: no such register\): ") as w:
            assert kernels.resolve() is reference
        kernels.set_threads(10**6)
        assert kernels.resolve() is reference and len(w) == len(asked) == 1 and w[0].filename == __file__
        assert kernels.resolve(fast) is fast
        with pytest.raises(ValueError, match="at least 1 thread"):
            kernels.set_threads(0)
    finally:
        kernels._best.cache_clear()


# ---- older processors

PROCESSORS = {"nehalem": ("ymm", "zmm"), "haswell": ("zmm",)}  # and the wider registers that they do not have
SMALL = """
import numpy as np
from numba import njit
from npae.kernels import fast, reference
from npae.kernels.geometry import window_geometry
from npae.layers import ReLU

def agree(got, want):
    assert got.any() and np.abs(got - want).max() <= 1e-5 * np.abs(want).max()

rng = np.random.default_rng(0)
x, W, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 7, 6, 5), (3, 3, 5, 17), 17))
g = window_geometry((7, 6), 3, 2, "same")
agree(fast.conv2d_forward(x, W, b, g, ReLU()), reference.conv2d_forward(x, W, b, g, ReLU()))
x, W = x.reshape(14, 45), W.reshape(45, 17)
agree(fast.dense_forward(x, W, b, ReLU()), reference.dense_forward(x, W, b, ReLU()))
theta = b.copy()
fast.sgd_step(theta, b, 0.25)
agree(theta, 0.75 * b)

@njit
def doubled(a):
    for i in range(a.size):
        a[i] *= 2

doubled(b)
print(*doubled.inspect_asm().values())
"""


def test_older_processors_compute_the_same(pytestconfig):
    """To compile costs seconds, so the kernels are kept in pytest's cache, for these processors alone."""
    folder = pytestconfig.cache.mkdir("npae-older-processors")
    started = {name: start("-c", SMALL, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(folder / name))
               for name in PROCESSORS}
    for name, process in started.items():
        code, _ = said(process)
        assert "xmm" in code and not [register for register in PROCESSORS[name] if register in code], name
        for old in sorted((folder / name).glob("npae-kernels-*"), key=os.path.getmtime)[:-1]:
            shutil.rmtree(old)  # of sources that have changed since


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSORS)
def test_older_processors_pass_the_tests_of_the_kernels(name, tmp_path):
    files = [ROOT / "tests" / file for file in KERNEL_TESTS]
    out, _ = said(start("-m", "pytest", "-q", "-p", "no:cacheprovider", *files, NUMBA_CPU_NAME=name,
                        NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path)), seconds=1800)
    assert " passed" in out and "failed" not in out
