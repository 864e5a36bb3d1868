"""Where Numba keeps the compiled kernels: a folder per state of their sources.

Numba looks at a kernel's own source file only when it decides whether its cached code is still good; a constant or a
helper that comes from another file is frozen into it. A folder named by all kernels' sources can't hold stale code.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

import numba
import platformdirs

_PACKAGES = Path(__file__).resolve().parent.parent


@cache
def settle() -> Path:
    """Called before a module defines kernels: points Numba at the folder, once per process, and gives it.

    Below NUMBA_CACHE_DIR if that is set, else in the user's cache folder; if neither can be written, a folder of this
    process alone, so that it compiles anew (10 to 30 s) rather than fails.
    """
    digest = hashlib.sha256()
    for path in (
        *sorted((_PACKAGES / "dataflow" / "kernels").glob("*.py")),
        _PACKAGES / "recovery" / "charset_kernels.py",
    ):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    own = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(own) if own else platformdirs.user_cache_path("rowback", appauthor=False) / "numba"
    folder = base / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="rowback-numba-"))
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return folder
