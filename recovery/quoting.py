"""How SQL writes a name."""

from __future__ import annotations


def quote(*parts: str) -> str:
    """A name in backticks, dotted if it has parts: "`shop`.`orders`"."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)
