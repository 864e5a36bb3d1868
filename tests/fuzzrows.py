"""A process of its own that feeds bent row events to the decoder: `python fuzzrows.py <TableEvents> <seed> <rounds>`.

Each event stands at the very end, or at the very beginning, of memory whose neighbour pages can't be read: a read out of
bounds kills the process. Prints how many events gave a fault, an answer, and the answer of the event before it was bent.
One in five times the TABLE_MAP is bent instead: how many are refused, and with how many the row event still parses.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dataflow import tablemap
from dataflow.rows import RowDecoder, RowEvents, RowFault
from recovery.errors import RowbackError

_PAGE = mmap.PAGESIZE


class Guarded:
    """Room between two pages that can't be read."""

    def __init__(self, size: int) -> None:
        self.room = -(-size // _PAGE) * _PAGE
        self._map = mmap.mmap(-1, self.room + 2 * _PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (self.base, self.base + _PAGE + self.room):
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(_PAGE), 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def hold(self, raw: bytes, *, at_end: bool) -> np.ndarray:
        start = self.base + _PAGE + (self.room - len(raw) if at_end else 0)
        ctypes.memmove(start, raw, len(raw))
        return np.ctypeslib.as_array((ctypes.c_uint8 * len(raw)).from_address(start))


def bent(body: bytes, rng: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        kind = rng.randrange(6)
        at = rng.randrange(len(data)) if data else 0
        if kind == 0 and data:
            data[at] = rng.randrange(256)
        elif kind == 1 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.randrange(1, 9)]
        elif kind == 4:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif data:
            data[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\xfc\xff\xff"))
    return bytes(data)


def outcome(decoder: RowDecoder, buffer: np.ndarray, kind: int) -> tuple[str, Any]:
    events = RowEvents(buffer, np.zeros(1, np.int64), np.array([len(buffer)], np.int64), np.array([kind], np.uint8))
    try:
        stretches = decoder.decode(events)
    except RowFault as fault:
        if fault.event != 0:
            raise AssertionError(f"a fault at event {fault.event} of one") from fault
        return "fault", None
    for images in stretches:
        for array in (*images.columns, images.changed, images.exact):
            array.validate(full=True)
            if len(array) != len(images.op):
                raise AssertionError("a column has another length than there are images")
    return "answer", [(images.op.tolist(), images.columns, images.exact) for images in stretches]


def bent_definition(table: Any, names: dict[int, str], flavor: str, rng: random.Random) -> RowDecoder | None:
    """The decoder of a TABLE_MAP that was bent; None where it is refused."""
    try:
        return RowDecoder(tablemap.parse(bent(table.definition, rng), names, flavor=flavor))
    except RowbackError:
        return None


def main(path: str, seed: str, rounds: str) -> None:
    tables, names, flavor = pickle.loads(Path(path).read_bytes())
    rng = random.Random(int(seed))
    room = Guarded(max(len(body) for table in tables for body in table.bodies) + 4096)
    counts = {"fault": 0, "answer": 0, "same": 0, "refused": 0, "misread": 0}
    decoders = [RowDecoder(table.table_map) for table in tables]
    for _ in range(int(rounds)):
        number = rng.randrange(len(tables))
        which = rng.randrange(len(tables[number].bodies))
        body, kind = tables[number].bodies[which], tables[number].types[which]
        if rng.random() < 0.2:
            decoder = bent_definition(tables[number], names, flavor, rng)
            counts["refused"] += decoder is None
            if decoder is not None:
                counts["misread"] += outcome(decoder, room.hold(body, at_end=True), kind)[0] == "answer"
            continue
        found, answer = outcome(
            decoders[number], room.hold(bent(body, rng)[: room.room], at_end=rng.random() < 0.7), kind
        )
        counts[found] += 1
        if found == "answer":
            _, before = outcome(decoders[number], np.frombuffer(body, np.uint8), kind)
            counts["same"] += answer == before
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
