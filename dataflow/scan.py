"""Looking around in a server's binlog: which GTIDs stand before a place, and where transactions begin. Reads no rows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from dataflow import events as ev
from dataflow.reader import EventReader
from dataflow.stream import EventStream
from recovery.archive.actions import Checkpoint
from recovery.config import ServerSettings
from recovery.errors import SourceUnreachable
from recovery.gtid import GtidSet, binlog_order, parse_gtid_set
from recovery.source import ServerInfo

SCAN_SILENCE_S = 10


class Scan:
    """Reads a file from its beginning for GTIDs and transaction starts only.

    Its fields describe the place in front of the next event: whether a transaction starts there, with which GTID, or could
    (between_transactions), and the GTIDs of everything before it. scanning: beside a stream of the same server.
    """

    def __init__(self, server: ServerSettings, info: ServerInfo, file: str, *, scanning: bool = True) -> None:
        self.info = info
        self.file, self.position = file, 4
        self.gtids: GtidSet = parse_gtid_set("", info.flavor)
        self.newest: dict[str, str] = {}  # MariaDB's: the newest GTID of each domain and server
        self.began = False  # the file's list of earlier GTIDs has been read
        self.at_transaction = False
        self.between_transactions = False
        self.next_gtid: str | None = None
        self.next_flags = 0  # of MariaDB's GTID event
        self.next_original_us: int | None = None  # when it was committed on the server where it began (MySQL)
        self.ended = False  # the server has nothing more to send
        self.file_begun_at_us: int | None = None
        self._created_at_us = 0
        self._waiting: deque[ev.Event] = deque()
        self._stream = EventStream(server, info.flavor, replica_id(server, info, scanning=scanning), file, 4)
        self._reader = EventReader()

    def close(self) -> None:
        self._stream.close()

    def to(self, file: str, position: int) -> None:
        """Go on to a place that the server has named as its binlog's end. There is no event to wait for behind it: an idle
        server says only after a heartbeat's time that it has nothing more. Raises SourceUnreachable."""
        end = binlog_order(file, position)
        self.until(lambda _: False, lambda scan: binlog_order(scan.file, scan.position) >= end)

    def until(self, reached: Callable[[Scan], bool], passed: Callable[[Scan], bool] | None = None) -> None:
        """Go on until `reached` holds in front of an event, `passed` behind one, or to the end of what the server has now.
        Raises SourceUnreachable if it falls silent before."""
        deadline = time.monotonic() + SCAN_SILENCE_S
        while not self.ended:
            if not self._waiting:
                # Behind the packet that ended the stream only the closed connection would be found.
                for data, _ in self._stream.take(1 << 20) if self._reader.ending is None else ():
                    self._waiting.extend(self._reader.feed(data))
                if self._reader.ending is not None and not self._waiting:
                    raise self._stream.ended(self._reader.ending, began=True)
                if self._waiting:
                    deadline = time.monotonic() + SCAN_SILENCE_S
                elif time.monotonic() > deadline:
                    # Not an end: a server that has nothing more to send sends heartbeats. Taken for one, the GTIDs read so
                    # far would be taken for all that stand before the place that is looked for.
                    raise SourceUnreachable(
                        f"the source sent nothing for {SCAN_SILENCE_S} s in the middle of `{self.file}`",
                        hint="Look at the network between this machine and the source, then start capture again.",
                    )
                else:
                    time.sleep(0.005)
                continue
            event = self._waiting[0]
            self.ended = event.type in (ev.HEARTBEAT, ev.HEARTBEAT_V2)
            self._look(event)
            if self.ended or reached(self):
                return
            self._waiting.popleft()
            self._pass(event)
            if passed is not None and passed(self):
                return

    def checkpoint(self, moment_us: int | None) -> Checkpoint:
        """An empty archive's checkpoint here. moment_us: None for the time at which the file was begun."""
        moment = self._created_at_us if moment_us is None else moment_us
        begun_at_us = self.file_begun_at_us
        return Checkpoint(0, self.file, self.position, str(self.gtids), moment, moment, file_begun_at_us=begun_at_us)

    def _look(self, event: ev.Event) -> None:
        self.next_gtid = self.next_original_us = None
        self.at_transaction = event.type in (ev.GTID, ev.GTID_TAGGED, ev.ANONYMOUS_GTID, ev.MARIADB_GTID)
        # MariaDB writes a checkpoint when it is done with an older file, behind whatever transaction was last then.
        alone = event.type in (ev.ROTATE, ev.STOP, ev.MARIADB_BINLOG_CHECKPOINT)
        self.between_transactions = self.at_transaction or alone
        if event.type == ev.MARIADB_GTID:
            self.next_gtid, self.next_flags = ev.mariadb_gtid_text(event), event.body[12]
        elif self.at_transaction:
            self.next_gtid = ev.mysql_gtid(event)
            self.next_original_us = ev.original_commit_us(event)

    def _pass(self, event: ev.Event) -> None:
        if event.type == ev.ROTATE:
            self.file, self.position = ev.rotate(event)
            self.file_begun_at_us = None
            return
        if event.type == ev.FORMAT_DESCRIPTION:
            self.file_begun_at_us = event.timestamp * 1_000_000
            self._created_at_us = self._created_at_us or self.file_begun_at_us
        elif event.type in (ev.PREVIOUS_GTIDS, ev.MARIADB_GTID_LIST):
            mysql = event.type == ev.PREVIOUS_GTIDS
            text = ev.previous_gtids(event) if mysql else ",".join(ev.mariadb_gtid_list(event))
            self.gtids = self.gtids.union(parse_gtid_set(text, self.info.flavor))  # type: ignore[arg-type]
            self._note(*filter(None, text.split(",")))
            self.began = True
        elif self.next_gtid is not None:
            self.gtids.add(self.next_gtid)
            self._note(self.next_gtid)
        if not event.artificial:
            self.position += event.size  # its own end wraps at 4 GiB

    def _note(self, *gtids: str) -> None:
        if self.info.flavor == "mariadb":
            self.newest.update((gtid.rpartition("-")[0], gtid) for gtid in gtids)


def replica_id(server: ServerSettings, info: ServerInfo, *, scanning: bool = False) -> int:
    """The server id that capture registers with: unlike the source's and stable for a configured server, since a source
    ends the older of two replicas with one id. A scan beside a capture takes another one."""
    base = sum(server.name.encode()) * 131 + info.server_id * 7
    return 2_000_000_000 + base % 100_000_000 + (100_000_000 if scanning else 0)
