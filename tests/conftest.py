"""Fixtures that several test files share: where MNIST lies, and a cache folder that is thrown away."""
import os
from pathlib import Path

import pytest

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
