"""What happens beside the arithmetic of a training: records, best weights, stopping, a bar, an animation.
A callback is told when the fit begins, after each batch, after each epoch and at the end; it reads (and may set) State.
"""
from npae.callbacks.animation import Animation
from npae.callbacks.base import Callback, State
from npae.callbacks.memory import EarlyStopping, History, ModelCheckpoint
from npae.callbacks.progress import ProgressBar, compiled_before

__all__ = ["Animation", "Callback", "EarlyStopping", "History", "ModelCheckpoint", "ProgressBar", "State",
           "compiled_before"]
