"""The door for the terminal: `npae COMMAND`, or `python -m npae COMMAND`.
A wrong argument, a missing file, a wrong shape is one sentence and exit status 2; a wrong gradient is exit status 1.
What a signal has ended is 128 and the signal's number: 130 for Ctrl-C, 143 for SIGTERM.
"""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from npae.cli.parser import one_setting_each, parser

__all__ = ["main", "parser"]


class Terminated(KeyboardInterrupt):
    """SIGTERM, outside of a training, which has its own way to stop."""

    status = 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    before = _listen(signal.SIG_DFL, _terminated)
    try:
        args = parser().parse_args(one_setting_each(sys.argv[1:] if argv is None else argv))
        status = args.run(args)
        sys.stdout.flush()  # here, where a reader that has gone away is no surprise
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it ends
        return 141  # 128 + SIGPIPE, as a shell has it
    except (ValueError, OSError) as error:
        return _said(_sentence(error), error, 2)
    except MemoryError as error:
        return _said(f"there is not enough memory ({error}): use smaller settings", error, 2)
    except KeyboardInterrupt as error:
        return _said(str(error) or "interrupted", error, getattr(error, "status", 130))
    finally:
        _listen(_terminated, before)


def _terminated(number: int, frame: Any) -> None:
    raise Terminated("terminated")


def _listen(before: Any, handler: Any) -> Any:
    """Let SIGTERM be heard by a handler where another one stands, and give that; in the main thread alone."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is before:
        return signal.signal(signal.SIGTERM, handler)
    return before


def _sentence(error: Exception) -> str:
    """What the system says of a file, without the number of its error."""
    if isinstance(error, OSError) and error.errno and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _said(message: str, error: BaseException, status: int) -> int:
    """Print a sentence, and what was noted about it on its way here, on one line."""
    notes = getattr(error, "__notes__", [])
    print(f"npae: {' '.join('; '.join([message, *notes]).split())}", file=sys.stderr)
    return status
