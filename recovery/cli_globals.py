"""The options that stand before the command: all that `rowback --help` needs of what recovery/cli_options.py has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Globals:
    """Options given before the command; the same options after it win."""

    config: Path | None = None
    server: str | None = None
    debug: bool = False
