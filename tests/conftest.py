"""Fixtures that several test files share: where MNIST lies, and a cache folder that is thrown away."""
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser

ROOT = Path(__file__).resolve().parent.parent
MNIST_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the four files of real MNIST; a test that asks for it is skipped where they are absent."""
    folder = Path(os.environ.get("NPAE_DATA") or ROOT.parent / "shared" / "data" / "mnist")
    missing = [name for name in MNIST_FILES if not any((folder / (name + end)).is_file() for end in ("", ".gz"))]
    if missing:
        pytest.skip(f"real MNIST is not in {folder} ({missing[0]} is missing): set $NPAE_DATA to its folder")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder of the test's own ($NPAE_CACHE)."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NPAE_CACHE", str(folder))
    return folder


@pytest.fixture
def own_core() -> Iterator[None]:
    """One thread for a test that trains, where others run beside it: threads that share a core wait for each other.
    Bits do not depend on it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    import numba
    from threadpoolctl import threadpool_limits

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    with threadpool_limits(1):
        yield
    numba.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 pictures of 8 x 8 with a bright bar, each in one of two classes, as a Keras-like .npz."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, (90, 8, 8), np.uint8)
    y = rng.integers(0, 2, 90)
    x[np.arange(90), :, 2 + 3 * y] = 250
    path = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(path, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with Browser() as window:
        yield window


COMPILE = """
import sys
import numpy as np
from npae import losses, optim
from npae.lab.catalogue import cases
dtype, rng = np.dtype(sys.argv[1]), np.random.default_rng(0)
for case in cases():
    layer = case.make(rng, dtype)
    layer.give_rng(rng)
    layer.backward(layer.forward(rng.standard_normal(case.input_shapes[0]).astype(dtype)))
x = rng.random((2, 3)).astype(dtype)
for likelihood in (losses.Bernoulli(), losses.SquaredError()):
    likelihood.nll(x, x)
for optimizer in (optim.SGD(0.1), optim.Momentum(0.1), optim.RMSprop(), optim.Adam(clip_norm=1.0)):
    optimizer.step(x.ravel(), x.ravel().copy())
"""


def pytest_sessionstart(session: pytest.Session) -> None:
    """With a cold cache, let two processes compile the kernels, one a dtype: Numba compiles on one core alone."""
    from npae.callbacks import compiled_before

    if not compiled_before():
        running = [subprocess.Popen([sys.executable, "-c", COMPILE, dtype]) for dtype in ("float32", "float64")]
        for process in running:
            process.wait()
