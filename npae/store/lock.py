"""One writer a folder: a lock that the system lets go of when its process ends, however it ends."""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: there is no lock then
    fcntl = None  # type: ignore[assignment]

LOCK = ".npae-lock"


@contextmanager
def one_writer(folder: str | Path) -> Iterator[None]:
    """Inside, no other process (nor thread) gets past this line with the same folder.

    The lock is one on an open file, not the file itself, so that what a killed process leaves behind locks nobody out;
    the file names the process for the message of the others. A folder that cannot be written raises its OSError.
    Raises: BlockingIOError where there is another writer, which is named.
    """
    if fcntl is None:
        yield
        return
    path = Path(folder) / LOCK
    file = _locked(path)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is let go: who waits for this very file sees that it is no more
        os.close(file)


def _locked(path: Path) -> int:
    """A descriptor of the lock file, locked, and still the one that stands there."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            pid = os.pread(file, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise BlockingIOError(f"{path.parent} is being written by process {pid}: wait until it has ended, or "
                                  "choose another folder") from None
        except FileNotFoundError:  # it was removed between the two looks
            pass
        os.close(file)
