"""Single events from the bytes of a replication stream, for looking around in a binlog: where files, transactions and
GTIDs are. Capture itself goes through dataflow/framer.py. Verifies checksums."""

from __future__ import annotations

import numpy as np

from dataflow import events as ev
from dataflow import packets
from dataflow.grammar import damaged, event_of
from dataflow.kernels import frame as fk

# Bodies that somebody may want; others, rows above all, come empty.
_WITH_BODY = frozenset(
    {ev.ROTATE, ev.FORMAT_DESCRIPTION, ev.GTID, ev.ANONYMOUS_GTID, ev.GTID_TAGGED, ev.PREVIOUS_GTIDS, ev.MARIADB_GTID}
    | {ev.MARIADB_GTID_LIST}
)


class EventReader:
    """ending: the packet with which the server ended the stream, once it came."""

    def __init__(self) -> None:
        self.ending: bytes | None = None
        self._checksummed = True
        self._index = np.empty((4096, fk.EVENT_FIELDS), np.int64)
        self._rest = np.empty(0, np.uint8)

    def feed(self, data: np.ndarray) -> list[ev.Event]:
        """Take in bytes; gives the events that are whole. Raises BinlogDamaged."""
        buffer = np.concatenate((self._rest, data))
        found: list[ev.Event] = []
        at = 0
        while self.ending is None:
            status, at, count = fk.frame(buffer, at, len(buffer), True, self._checksummed, self._index, 0)
            found.extend(
                event_of(buffer, row, with_body=int(row[fk.EVENT_TYPE]) in _WITH_BODY) for row in self._index[:count]
            )
            if status == fk.FORMAT_SEEN:
                self._checksummed = ev.format_checksummed(found[-1])
            elif status in (fk.END_PACKET, fk.ERROR_PACKET):
                self.ending = buffer[at + 4 :].tobytes()
            elif status == fk.LARGE_PACKET:
                span = packets.span_of_event(buffer, at)
                if span is None or len(buffer) - at < span:
                    break
                event = packets.joined(buffer[at : at + span])
                _, _, count = fk.frame(event, 0, len(event), False, self._checksummed, self._index, 0)
                if not count:
                    raise damaged("an event of 16 MiB or more is broken")
                found.append(event_of(event, self._index[0], with_body=False))
                at += span
            elif status == fk.NEED_MORE:
                break
            elif status != fk.INDEX_FULL:
                raise damaged("the server sent what is not a sound binlog event")
        self._rest = buffer[at:].copy()
        return found
