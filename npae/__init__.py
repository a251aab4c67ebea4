"""npae: autoencoders from scratch in NumPy and Numba, with every gradient checked.
Submodules are loaded when they are first used, so that `import npae` costs next to nothing.
"""
from __future__ import annotations

import importlib
from typing import Any

from npae._version import __version__

__all__ = [
    "__version__", "callbacks", "checkpoint", "corruption", "data", "evaluate", "explore", "figures", "gradcheck",
    "init", "interop", "kernels", "layers", "losses", "measures", "models", "nets", "optim", "params", "penalties",
    "recipes", "reconstruct", "runs", "settings", "store", "tables", "trace", "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"npae.{name}")
    raise AttributeError(f"module 'npae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
