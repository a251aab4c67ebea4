"""A training in a file: everything that going on to the same bits needs, as JSON and raw arrays.
`Checkpoint` among the callbacks of a fit writes it; `train.fit(..., resume=path)` goes on from it.
"""
from npae.checkpoint.callback import Checkpoint, Interrupted, say_what_is_kept
from npae.checkpoint.file import configuration, place, restore, save
from npae.store import CheckpointError

__all__ = ["Checkpoint", "CheckpointError", "Interrupted", "configuration", "place", "restore", "save",
           "say_what_is_kept"]
