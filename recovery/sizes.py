"""Sizes as people write them: `512MiB`, `2GB`."""

from __future__ import annotations

import re

from recovery.errors import ConfigError

DEFAULT_MEMORY_LIMIT_BYTES = 1024**3
MIN_MEMORY_LIMIT_BYTES = 64 * 1024**2  # DuckDB's two threads need some for their vectors
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B?|B)?", re.IGNORECASE)


def parse_size(option: str, text: str) -> int:
    """Bytes of a size like `512MiB`, `2GB` (powers of ten without the i) or `1000000000`. Raises ConfigError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"`{text}` is no size", hint=f"Write it like `{option} 512MiB` or `{option} 2GiB`.")
    base = 1024 if match.group(3) else 1000
    return int(float(match.group(1)) * base ** " KMGT".index((match.group(2) or " ").upper()))


def parse_memory(text: str) -> int:
    """The size that `--memory` gives. Raises ConfigError for one that no merge fits into, too."""
    limit_bytes = parse_size("--memory", text)
    if limit_bytes < MIN_MEMORY_LIMIT_BYTES:
        raise ConfigError(f"`--memory {text}` is too little for a merge", hint="Give it at least 64MiB.")
    return limit_bytes
