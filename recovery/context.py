"""What every operation needs: the settings of one server and the way to its archive. Built once, at the edge.

The log's module is imported with the first archive that is opened, after its settings were found to be right: it brings
pyarrow, which a command that ends with an error in rowback.toml needn't wait for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recovery import config
from recovery.archive.names import Layout
from recovery.archive.store import Store, open_store
from recovery.config import ArchiveSettings, ServerSettings, Settings

if TYPE_CHECKING:
    from recovery.archive.log import Log


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """One server and its archive. `server` has no password; `source()` gives the one that has."""

    settings: Settings
    server: ServerSettings
    archive: ArchiveSettings
    store: Store
    layout: Layout
    log: Log
    now: Callable[[], datetime] = field(default=utc_now)

    def source(self) -> ServerSettings:
        """The server's settings with the password resolved. Raises ConfigError when it can't be had."""
        return self.settings.server(self.server.name)

    def scratch(self) -> ServerSettings | None:
        """The scratch server's settings with its password; None if none is configured. Raises ConfigError."""
        return self.settings.scratch(self.server.name)


def open_context(config_path: Path | str | None = None, server: str | None = None) -> Context:
    """Read the settings, pick the server and open its archive. Raises ConfigError. Connects nowhere."""
    settings = config.load(config_path)
    return context_of(settings, server_name(settings, server))


def server_name(settings: Settings, server: str | None = None) -> str:
    """This server, else ROWBACK_SERVER's, else the only one. Raises ConfigError."""
    return settings.server_name(server or os.environ.get("ROWBACK_SERVER") or None)


def context_of(settings: Settings, server: str) -> Context:
    """Raises ConfigError. Connects nowhere."""
    from recovery.archive.log import Log

    chosen = settings.server_without_password(server)
    store = open_store(settings.archive)
    layout = Layout(settings.archive.tenant, chosen.name)
    return Context(settings, chosen, settings.archive, store, layout, Log(store, layout))


def program(name: str) -> Path | None:
    """The path of an external program, None if there is none on PATH."""
    found = shutil.which(name)
    return Path(found) if found else None
