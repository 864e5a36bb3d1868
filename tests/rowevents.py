"""Row events out of a real server's binlog files, and what the row decoder makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from dataflow import events as ev
from dataflow import tablemap
from dataflow.grammar import event_of
from dataflow.kernels import frame
from dataflow.rows import RowDecoder, RowEvents, RowImages
from testservers import Server

ROW_TYPES = frozenset({23, 24, 25, 30, 31, 32, 39})


@dataclass
class TableEvents:
    """The row events after TABLE_MAPs with one definition."""

    table_map: tablemap.TableMap
    definition: bytes = b""
    types: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def row_events(self) -> RowEvents:
        """All of them in one read-only buffer, with foreign bytes around."""
        data = b"\xff" + b"\xee\xee".join(self.bodies) + b"\xdd"
        sizes = np.array([len(b) for b in self.bodies], np.int64)
        start = np.concatenate([[1], 1 + np.cumsum(sizes + 2)[:-1]]).astype(np.int64)
        return RowEvents(np.frombuffer(data, np.uint8), start, start + sizes, np.array(self.types, np.uint8))

    def decode(self) -> RowImages:
        return self.decode_as(self.table_map)

    def decode_as(self, table_map: tablemap.TableMap) -> RowImages:
        return joined(RowDecoder(table_map).decode(self.row_events()))


def joined(stretches: list[RowImages]) -> RowImages:
    return RowImages(
        np.concatenate([s.event for s in stretches]),
        np.concatenate([s.change for s in stretches]),
        np.concatenate([s.op for s in stretches]),
        pa.concat_arrays([s.changed for s in stretches]),
        pa.concat_arrays([s.exact for s in stretches]),
        tuple(pa.concat_arrays(list(arrays)) for arrays in zip(*(s.columns for s in stretches), strict=True)),
    )


def collations(server: Server) -> dict[int, str]:
    view = "collations" if server.flavor == "mysql" else "collation_character_set_applicability"
    rows = server.execute(f"SELECT id, character_set_name FROM information_schema.{view}")
    return {int(number): name for number, name in rows}


def events(raw: bytes) -> list[ev.Event]:
    """The events of a binlog file's bytes (behind the 4 magic bytes), checksums verified; without FORMAT_DESCRIPTION,
    whose flag "in use" isn't in its checksum."""
    at = 4 + int.from_bytes(raw[4 + 9 : 4 + 13], "little")
    checksummed = raw[at - 5] == 1
    buffer = np.frombuffer(raw, np.uint8)
    index = np.empty((1 << 16, frame.EVENT_FIELDS), np.int64)
    found: list[ev.Event] = []
    status = frame.INDEX_FULL
    while status == frame.INDEX_FULL:
        status, at, count = frame.frame(buffer, at, len(buffer), False, checksummed, index, 0)
        found.extend(event_of(buffer, row) for row in index[:count])
    assert (status, at) == (frame.NEED_MORE, len(raw))
    return found


def row_events(
    server: Server, database: str, names: Mapping[int, str] | None = None, *, need_names: bool = True
) -> dict[str, list[TableEvents]]:
    """By table, one entry per definition in order, of everything that the server's binlogs have of a database."""
    names = collations(server) if names is None else names
    server.execute("FLUSH BINARY LOGS")
    found: dict[str, dict[bytes, TableEvents]] = {}
    current: dict[int, TableEvents] = {}
    for path in server.binlog_files():
        for event in events(path.read_bytes()):
            if event.type == ev.TABLE_MAP:
                number = tablemap.table_id(event.body)
                current.pop(number, None)
                db = event.body[9 : 9 + event.body[8]].decode()
                if db != database:
                    continue
                table_map = tablemap.parse(event.body, names, flavor=server.flavor, need_names=need_names)
                mine = found.setdefault(table_map.table.name, {})
                current[number] = mine.setdefault(event.body[6:], TableEvents(table_map, event.body))
            elif event.type in ROW_TYPES and (target := current.get(tablemap.table_id(event.body))) is not None:
                target.types.append(event.type)
                target.bodies.append(event.body)
    return {table: list(definitions.values()) for table, definitions in found.items()}
