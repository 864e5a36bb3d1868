"""Memory for what comes from a socket: large blocks that are filled one after the other and used again once nobody looks
into them.

Fresh memory is what reading a fast stream costs most: the kernel clears each page before it hands it out (measured: a sixth
of capture's processor time). So bytes are read straight to where they are decoded from, `joined` copies only what it must,
and a block goes back to work when its last view is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import numpy as np

BLOCK_BYTES: Final = 8 * 1024 * 1024
HEADROOM: Final = 1024 * 1024
"""Free bytes at a block's start: for the beginning of what the block goes on with."""
_KEPT: Final = 6
_FREE: Final = 3  # references to a block that only the list here has: the list's, the loop's, the counter's argument


class Blocks:
    """Used by one thread; views may end in any."""

    def __init__(self, size: int = BLOCK_BYTES, headroom: int = HEADROOM) -> None:
        self.headroom = headroom
        self._size = headroom + size
        self._blocks: list[np.ndarray] = []

    def take(self) -> np.ndarray:
        """A block (uint8) that nobody else looks into. Fill it from `headroom` on."""
        for block in self._blocks:
            if sys.getrefcount(block) == _FREE:
                return block
        block = np.empty(self._size, np.uint8)
        if len(self._blocks) < _KEPT:
            self._blocks.append(block)
        return block


def joined(rest: np.ndarray, chunks: Sequence[np.ndarray], headroom: int = HEADROOM) -> np.ndarray:
    """`rest` and then the chunks (uint8) as one array: a view where they lie one behind the other in a block, or where the
    rest fits before a block's first bytes; else a copy."""
    parts = [part for part in (rest, *chunks) if len(part)]
    if len(parts) == 1:
        return parts[0]
    whole = _span(parts)
    if whole is None and len(rest) and (behind := _span(parts[1:])) is not None:
        block, start = behind.base, _offset(behind)
        # Only a block's very first bytes have free memory before them.
        if block is not None and start == headroom and len(rest) <= headroom:
            block[start - len(rest) : start] = rest
            whole = block[start - len(rest) : start + len(behind)]
    return np.concatenate(parts) if whole is None else whole


def _span(parts: Sequence[np.ndarray]) -> np.ndarray | None:
    """The one view that these are, if each follows directly on the one before in the same block."""
    if not parts or (block := parts[0].base) is None:
        return None
    start = at = _offset(parts[0])
    for part in parts:
        if part.base is not block or _offset(part) != at:
            return None
        at += len(part)
    return block[start:at]


def _offset(view: np.ndarray) -> int:
    return int(view.ctypes.data - view.base.ctypes.data) if isinstance(view.base, np.ndarray) else -1
