"""Where things lie that were found out once and could be found out again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """A folder of ``$XDG_CACHE_HOME/sparsevit3d``, by default ``~/.cache/sparsevit3d``. It may be removed at any time."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparsevit3d" / kind
    with contextlib.suppress(OSError):  # where it cannot be, what would be kept there is told by whoever writes it
        folder.mkdir(parents=True, exist_ok=True)
    return folder
