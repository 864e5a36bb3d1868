"""MySQL packets that hold an event of 16 MiB or more: only the first has a status byte, and the last is shorter than the
greatest length (manual, "MySQL Packets": it may be empty)."""

from __future__ import annotations

from typing import Final

import numpy as np

from dataflow.kernels.frame import HEADER_LENGTH

_HEADER: Final = 4
_STATUS: Final = 1
_PACKET_MAX: Final = 0xFFFFFF


def span_of_event(buffer: np.ndarray, at: int) -> int | None:
    """Bytes of all packets of the event whose first packet is at `at`; None if its header isn't there yet."""
    header = buffer[at + _HEADER + _STATUS : at + _HEADER + _STATUS + HEADER_LENGTH]
    if len(header) < HEADER_LENGTH:
        return None
    length = int.from_bytes(header[9:13].tobytes(), "little") + _STATUS
    return length + _HEADER * (length // _PACKET_MAX + 1)


def joined(packets: np.ndarray) -> np.ndarray:
    """The bare event in these packets, which are whole."""
    parts, at = [], 0
    while at < len(packets):
        length = int.from_bytes(packets[at : at + 3].tobytes(), "little")
        parts.append(packets[at + _HEADER : at + _HEADER + length])
        at += _HEADER + length
    return np.concatenate(parts)[_STATUS:]
