"""Whether Numba has compiled kernels, or loaded compiled ones, meanwhile: a layer's first time is no measure of it."""
from __future__ import annotations

import sys
from collections.abc import Callable


def watch() -> Callable[[], bool]:
    """Begin to look, and give what ends it and says whether kernels were made ready since."""
    if "numba" not in sys.modules:
        return lambda: "numba" in sys.modules
    from numba.core import event

    recorder = event.RecordingListener()
    event.register("numba:compiler_lock", recorder)  # which Numba holds while it compiles a kernel or loads one

    def stop() -> bool:
        event.unregister("numba:compiler_lock", recorder)
        return bool(recorder.buffer)

    return stop
