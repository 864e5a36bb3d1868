"""Framing: from the bytes of a replication stream to an index of its events.

`frame` walks MySQL packets (4-byte header: length 3, sequence 1; then a status byte and one event) or bare events one
behind the other, checks each event's size and CRC-32 and writes a row of EVENT_* fields about it. It looks into no body.
Layout: MySQL's libs/mysql/binlog/event/binlog_event.h, "Common-Header" (19 bytes, binlog version 4); the packet and its
status byte: sql/rpl_binlog_sender.cc and the manual's "MySQL Packets".
"""

from __future__ import annotations

from typing import Final

from numba import types

from dataflow.kernels.crc32 import crc32
from dataflow.kernels.memory import BYTES, OPTIONS, load_u16, load_u32
from recovery.kernelcache import kernel

# The fields of an event in the index, one int64 each.
EVENT_TYPE: Final = 0
EVENT_BODY: Final = 1  # offset of the body, behind the header
EVENT_END: Final = 2  # offset behind the body, the checksum left out
EVENT_TIMESTAMP: Final = 3  # seconds since the epoch
EVENT_SERVER_ID: Final = 4
EVENT_SIZE: Final = 5  # bytes with header and checksum
EVENT_LOG_POS: Final = 6  # where the next event starts, modulo 2**32; 0 for some artificial events
EVENT_FLAGS: Final = 7
EVENT_CRC: Final = 8  # CRC-32 over the event without its checksum
EVENT_PACKET: Final = 9  # offset of the packet (or of the bare event)
EVENT_FIELDS: Final = 10

# Why `frame` came back.
NEED_MORE: Final = 0  # the input ends here or inside the next packet
INDEX_FULL: Final = 1
LARGE_PACKET: Final = 2  # an event of 16 MiB or more, which spans packets
END_PACKET: Final = 3  # the server ends the stream (0xFE)
ERROR_PACKET: Final = 4  # the server reports an error (0xFF)
BAD_FRAME: Final = 5  # sizes don't fit together
BAD_CRC: Final = 6
FORMAT_SEEN: Final = 7  # the last indexed event is a FORMAT_DESCRIPTION, which may switch checksums on or off

HEADER_LENGTH: Final = 19
_FORMAT_DESCRIPTION: Final = 15
_PACKET_MAX: Final = 0xFFFFFF


@kernel(
    types.UniTuple(types.int64, 3)(
        BYTES, types.int64, types.int64, types.boolean, types.boolean, types.int64[:, ::1], types.int64
    ),
    **OPTIONS,
)
def frame(buffer, at, stop, packets, checksummed, index, count):  # type: ignore[no-untyped-def]
    """Index the events in buffer[at:stop] from row `count` of `index` on.

    buffer: uint8; index: int64 of shape (capacity, EVENT_FIELDS); packets: whether each event is in a packet; checksummed:
    whether events end in a CRC-32 (a FORMAT_DESCRIPTION's own algorithm byte says so for itself).
    Returns (status, offset behind the last whole event, count of rows now in the index).
    """
    while True:
        if count == index.shape[0]:
            return INDEX_FULL, at, count
        start, end = at, stop
        if packets:
            if at + 4 > stop:
                return NEED_MORE, at, count
            length = load_u32(buffer, at) & 0xFFFFFF
            if length == _PACKET_MAX:
                return LARGE_PACKET, at, count
            end = at + 4 + length
            if end > stop:
                # A bent length would wait for bytes that never come: the event's own size must agree at once.
                begun = at + 5 + HEADER_LENGTH <= stop and buffer[at + 4] == 0
                if begun and load_u32(buffer, at + 14) != length - 1:
                    return BAD_FRAME, at, count
                return NEED_MORE, at, count
            if length == 0:
                return BAD_FRAME, at, count
            if buffer[at + 4] == 0xFE:
                return END_PACKET, at, count
            if buffer[at + 4] == 0xFF:
                return ERROR_PACKET, at, count
            start = at + 5
            if buffer[at + 4] != 0 or end - start < HEADER_LENGTH:
                return BAD_FRAME, at, count
        elif at + HEADER_LENGTH > stop:
            return NEED_MORE, at, count
        size = load_u32(buffer, start + 9)
        if packets and size != end - start:
            return BAD_FRAME, at, count
        if not packets:
            if size < HEADER_LENGTH:
                return BAD_FRAME, at, count
            end = start + size
            if end > stop:
                return NEED_MORE, at, count
        kind = types.int64(buffer[start + 4])
        tail = 4 if checksummed else 0
        if kind == _FORMAT_DESCRIPTION:
            # Algorithm and checksum are there even where the algorithm is "none" (Format_description_event).
            tail = 4
        if size < HEADER_LENGTH + tail:
            return BAD_FRAME, at, count
        crc = crc32(buffer, start, end - tail)
        verify = checksummed
        if kind == _FORMAT_DESCRIPTION:
            verify = buffer[end - 5] == 1
        if verify and crc != load_u32(buffer, end - 4):
            return BAD_CRC, at, count
        row = index[count]
        row[EVENT_TYPE] = kind
        row[EVENT_BODY] = start + HEADER_LENGTH
        row[EVENT_END] = end - tail
        row[EVENT_TIMESTAMP] = load_u32(buffer, start)
        row[EVENT_SERVER_ID] = load_u32(buffer, start + 5)
        row[EVENT_SIZE] = size
        row[EVENT_LOG_POS] = load_u32(buffer, start + 13)
        row[EVENT_FLAGS] = load_u16(buffer, start + 17)
        row[EVENT_CRC] = crc
        row[EVENT_PACKET] = at
        count += 1
        at = end
        if kind == _FORMAT_DESCRIPTION:
            return FORMAT_SEEN, at, count
