"""Files that are whole or not there: a temporary one is written, and takes the place of the old one at once."""
import hashlib
import os
import platform
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

CHUNK = 1 << 20
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # folders may be shared, and pids are a machine's own


@contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A temporary file, opened for reading and writing, that takes the place of `path` when the block ends well.

    Order: write, fsync the file, replace, fsync the folder. When anything fails, `path` is what it was and the
    temporary file is gone. A symbolic link stays, and what it points to is replaced.
    """
    target = check_target(path)
    # short, because a folder's longest name is 255 characters; `remove_orphans` sees whose it is
    temporary = target.with_name(f".npae-{HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp")
    try:
        file = open(temporary, "x+b")  # noqa: SIM115
    except OSError as error:
        error.filename = str(target)  # what the caller asked for
        raise
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a write does not know where
            error.filename = str(target)
        raise
    sync_folder(target.parent)


def check_target(path: str | Path) -> Path:
    """The place that a file of this name has or would have, links followed; asked before hours of work go into it.

    Raises: FileNotFoundError where its folder is not there; IsADirectoryError where a folder has that name.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} for {target.name}: make it, or write to another "
                                "place")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")
    return target


def sync_folder(path: str | Path) -> None:
    """Return when the names in a folder are on the disk; not only what the files hold."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_orphans(folder: str | Path) -> list[Path]:
    """Remove the temporary files that dead processes of this machine left in a folder; returns their paths."""
    orphans = []
    for path in sorted(Path(folder).glob(f".npae-{HOST}-*-*.tmp")):
        pid = path.name.split("-")[2]
        if pid.isdecimal() and not _alive(int(pid)):
            path.unlink(missing_ok=True)
            orphans.append(path)
    return orphans


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with atomic(path) as file:
        file.write(text.encode())


def read_bytes(read: Callable[[int], bytes], n: int, digest: Any = None) -> np.ndarray:
    """The next n bytes of a stream as a uint8 array, shorter where the stream ends first; they go into `digest` too."""
    array = np.empty(n, np.uint8)
    done = 0
    while done < n and (piece := read(min(CHUNK, n - done))):
        array[done:done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
        if digest is not None:
            digest.update(piece)
    return array[:done]


def _alive(pid: int) -> bool:
    """Whether a process runs; where that cannot be asked without harm (signal 0 ends a process on Windows), yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
