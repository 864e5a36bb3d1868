"""Where a capture's local spool lies, and what waits in it: for capture itself, and for a status on the same machine.

dataflow/spool.py writes it. Nothing in it is part of the archive.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import platformdirs


@dataclass(frozen=True)
class Spooled:
    """Closed windows that wait for the store: not safe yet. size_bytes: of all that lies in the spool."""

    windows: int
    size_bytes: int
    folder: str


def spool_folder(setting: str | None, store_url: str, tenant: str, server: str) -> Path:
    """One archive's folder below the configured one, or below the user's state folder. The store's address is part of it:
    two archives may have one tenant and server."""
    base = Path(setting).expanduser() if setting else platformdirs.user_state_path("rowback", appauthor=False) / "spool"
    return base.absolute() / f"{tenant}.{server}.{sha256(store_url.encode()).hexdigest()[:12]}"


def waiting(folder: Path) -> Spooled | None:
    """What waits; None if nothing does, or if this account may not look."""
    windows = size = 0
    try:
        for path in folder.rglob("*"):
            if path.name.startswith(".") or not path.is_file():
                continue
            windows += path.parent.name == "windows" and path.suffix == ".json"
            size += path.stat().st_size
    except OSError:
        return None
    return Spooled(windows, size, str(folder)) if windows else None
