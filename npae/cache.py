"""Where npae keeps what it has downloaded or computed once. One folder, and one environment variable to move it."""
import os
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder: `$NPAE_CACHE`, else `$XDG_CACHE_HOME/npae`, else `~/.cache/npae`; it may not exist yet.

    Raises: ValueError where there is neither a variable nor a home folder.
    """
    if given := os.environ.get("NPAE_CACHE"):
        return Path(os.path.expanduser(given))
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "npae"
    try:
        return Path.home() / ".cache" / "npae"
    except RuntimeError:
        raise ValueError("there is no home folder to keep a cache in: set $NPAE_CACHE to a folder") from None
