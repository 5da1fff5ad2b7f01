"""Where the package keeps what it may lose: the user's cache folder."""

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """The package's own folder within the user's cache folder; nothing is made."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "habenula"
