"""Binlog events: the header, and the few bodies that capture reads besides rows.

Sources of every offset: MySQL's libs/mysql/binlog/event/*.h and the manual's "Binary Log Event" pages; MariaDB's
sql/log_event.h. All integers are little endian unless said.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from recovery.errors import BinlogDamaged

HEADER = struct.Struct("<IBIIIH")  # timestamp, type, server id, event size, end position, flags (binlog v4)
HEADER_LENGTH: Final = 19

QUERY: Final = 2
STOP: Final = 3
ROTATE: Final = 4
INTVAR: Final = 5
RAND: Final = 13
USER_VAR: Final = 14
FORMAT_DESCRIPTION: Final = 15
XID: Final = 16
BEGIN_LOAD_QUERY: Final = 17
EXECUTE_LOAD_QUERY: Final = 18
TABLE_MAP: Final = 19
WRITE_ROWS_V1: Final = 23
UPDATE_ROWS_V1: Final = 24
DELETE_ROWS_V1: Final = 25
INCIDENT: Final = 26
HEARTBEAT: Final = 27
ROWS_QUERY: Final = 29
WRITE_ROWS: Final = 30
UPDATE_ROWS: Final = 31
DELETE_ROWS: Final = 32
GTID: Final = 33
ANONYMOUS_GTID: Final = 34
PREVIOUS_GTIDS: Final = 35
XA_PREPARE: Final = 38
PARTIAL_UPDATE_ROWS: Final = 39
TRANSACTION_PAYLOAD: Final = 40
HEARTBEAT_V2: Final = 41
GTID_TAGGED: Final = 42
MARIADB_ANNOTATE_ROWS: Final = 160
MARIADB_BINLOG_CHECKPOINT: Final = 161
MARIADB_GTID: Final = 162
MARIADB_GTID_LIST: Final = 163

ROW_EVENTS: Final = frozenset({WRITE_ROWS_V1, UPDATE_ROWS_V1, DELETE_ROWS_V1, WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS})
NAMES: Final = {
    INTVAR: "statement-format DML (an INTVAR event)",
    RAND: "statement-format DML (a RAND event)",
    USER_VAR: "statement-format DML (a USER_VAR event)",
    BEGIN_LOAD_QUERY: "statement-format LOAD DATA",
    EXECUTE_LOAD_QUERY: "statement-format LOAD DATA",
    INCIDENT: "an INCIDENT event: the server itself lost binlog events here",
    XA_PREPARE: "an XA transaction",
    PARTIAL_UPDATE_ROWS: "a partial JSON update (binlog_row_value_options=PARTIAL_JSON)",
    TRANSACTION_PAYLOAD: "a compressed transaction (binlog_transaction_compression=ON)",
    GTID_TAGGED: "a tagged GTID",
}

ARTIFICIAL_FLAG: Final = 0x20  # LOG_EVENT_ARTIFICIAL_F: made by the dump thread, not in the file
MARIADB_STANDALONE: Final = 1  # FL_STANDALONE: one statement, no COMMIT event follows
MARIADB_GROUP_COMMIT_ID: Final = 2
MARIADB_PREPARED_XA: Final = 64
MARIADB_COMPLETED_XA: Final = 128


@dataclass(frozen=True, slots=True)
class Event:
    """One event as sent. body: after the header, without the checksum. raw: all of it. start: 0 if artificial."""

    type: int
    timestamp: int
    server_id: int
    start: int
    end: int
    flags: int
    body: bytes
    checksum: bytes

    @property
    def artificial(self) -> bool:
        return bool(self.flags & ARTIFICIAL_FLAG) or self.end == 0


def parse(raw: bytes, *, checksummed: bool) -> Event:
    """Take an event apart and verify its CRC32. Raises BinlogDamaged.

    checksummed: whether events of this file carry a CRC32; a FORMAT_DESCRIPTION event always does (its own algorithm byte
    says so, and `format_checksummed` reads it), as does a ROTATE in a checksummed stream.
    """
    if len(raw) < HEADER_LENGTH:
        raise _damaged(f"an event of {len(raw)} bytes is shorter than its header")
    timestamp, kind, server_id, size, end, flags = HEADER.unpack_from(raw)
    if size != len(raw):
        raise _damaged(f"an event says it has {size} bytes and has {len(raw)}")
    if kind == FORMAT_DESCRIPTION:
        checksummed = format_checksummed(raw)
    stop = len(raw) - 4 if checksummed else len(raw)
    checksum = raw[stop:]
    if checksummed and zlib.crc32(memoryview(raw)[:stop]) != int.from_bytes(checksum, "little"):
        raise _damaged(f"the event that ends at {end} has a wrong CRC32")
    if kind == FORMAT_DESCRIPTION and not checksummed:
        stop -= 5  # the algorithm byte and an unused checksum are there all the same
    return Event(kind, timestamp, server_id, end - size if end else 0, end, flags, raw[HEADER_LENGTH:stop], checksum)


def format_checksummed(raw: bytes) -> bool:
    """Whether a FORMAT_DESCRIPTION event announces CRC32 (algorithm 1) or none (0): the byte before its own checksum."""
    algorithm = raw[-5]
    if algorithm not in (0, 1):
        raise _damaged(f"unknown binlog checksum algorithm {algorithm}")
    return algorithm == 1


def rotate(event: Event) -> tuple[str, int]:
    """The next file and the position in it."""
    return event.body[8:].decode(), int.from_bytes(event.body[:8], "little")


@dataclass(frozen=True, slots=True)
class GtidEvent:
    """committed_at_us: None where only the header's whole seconds are known."""

    gtid: str | None
    committed_at_us: int | None
    standalone: bool = False


def mysql_gtid(event: Event) -> GtidEvent:
    """GTID and ANONYMOUS_GTID: flags 1, uuid 16, number 8, logical timestamp type 1, last_committed 8, sequence_number 8,
    immediate commit time 7 (bit 55 says that an original commit time follows)."""
    body = event.body
    gtid = None
    if event.type == GTID:
        gtid = f"{uuid_text(body[1:17])}:{int.from_bytes(body[17:25], 'little', signed=True)}"
    if len(body) < 49:  # before MySQL 8.0.1
        return GtidEvent(gtid, None)
    return GtidEvent(gtid, int.from_bytes(body[42:49], "little") & ((1 << 55) - 1))


def mariadb_gtid(event: Event) -> tuple[GtidEvent, int]:
    """MariaDB's GTID: sequence 8, domain 4, flags 1. The flags come second in the answer."""
    sequence, domain, flags = struct.unpack_from("<QIB", event.body)
    gtid = f"{domain}-{event.server_id}-{sequence}"
    return GtidEvent(gtid, None, bool(flags & MARIADB_STANDALONE)), flags


def mariadb_gtid_list(event: Event) -> list[str]:
    """GTIDs in a GTID_LIST: count 4 (low 28 bits), then domain 4, server 4, sequence 8 each."""
    count = int.from_bytes(event.body[:4], "little") & 0x0FFFFFFF
    found = (struct.unpack_from("<IIQ", event.body, 4 + 16 * i) for i in range(count))
    return [f"{domain}-{server}-{sequence}" for domain, server, sequence in found]


def previous_gtids(event: Event) -> str:
    """PREVIOUS_GTIDS as a GTID set's text (MySQL's Gtid_set::encode).

    Untagged: source count 8, then per source uuid 16, interval count 8, and (first, past the end) 8+8 each. Since 8.3 the
    count's highest byte 1 marks the tagged form: its lowest byte repeats the 1, the count stands in the 48 bits between,
    and each uuid is followed by its tag (length in one byte, doubled, then the text).
    """
    body = event.body
    header = int.from_bytes(body[:8], "little")
    tagged = header >> 56 == 1
    count = (header >> 8) & ((1 << 48) - 1) if tagged else header
    at, parts = 8, []
    for _ in range(count):
        source = uuid_text(body[at : at + 16])
        at += 16
        if tagged:
            length = body[at] >> 1
            tag = body[at + 1 : at + 1 + length].decode()
            at += 1 + length
            source = f"{source}:{tag}" if tag else source
        intervals = int.from_bytes(body[at : at + 8], "little")
        at += 8
        for _ in range(intervals):
            first, past = struct.unpack_from("<QQ", body, at)
            at += 16
            parts.append(f"{source}:{first}-{past - 1}")
    if at != len(body):
        raise _damaged("a PREVIOUS_GTIDS event has an unexpected length")
    return ",".join(parts)


@dataclass(frozen=True, slots=True)
class QueryEvent:
    """exact: the statement could be decoded; else it is only for showing."""

    connection_id: int
    db: str
    statement: str
    exact: bool


def query(event: Event, charsets: Mapping[int, str]) -> QueryEvent:
    """QUERY: thread 4, seconds 4, db length 1, error 2, status length 2; status variables; db, NUL, statement.

    The statement is in the client's character set, which status variable 4 names by collation id; charsets: the server's
    names for these ids.
    """
    body = event.body
    thread, _, db_length, _, status_length = struct.unpack_from("<IIBHH", body)
    status = body[13 : 13 + status_length]
    at = 13 + status_length
    db = body[at : at + db_length]
    text = body[at + db_length + 1 :]
    codec = _CODECS.get(charsets.get(_client_collation(status), ""))
    try:
        if codec is None:
            raise ValueError("unknown character set")
        return QueryEvent(thread, db.decode(), text.decode(codec), exact=True)
    except ValueError:
        shown = text.decode("ascii", errors="backslashreplace")
        return QueryEvent(thread, db.decode("ascii", errors="backslashreplace"), shown, exact=False)


# Character sets that a client may speak -> Python codec; the rest counts as unknown.
_CODECS: Final = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "binary": "utf-8", "ascii": "ascii", "latin1": "cp1252",
    "latin2": "iso8859_2", "latin5": "iso8859_9", "latin7": "iso8859_13", "greek": "iso8859_7", "hebrew": "iso8859_8",
    "cp1250": "cp1250", "cp1251": "cp1251", "cp1256": "cp1256", "cp1257": "cp1257", "cp850": "cp850", "cp852": "cp852",
    "cp866": "cp866", "koi8r": "koi8_r", "koi8u": "koi8_u", "tis620": "tis_620", "gb2312": "gb2312", "gbk": "gbk",
    "gb18030": "gb18030", "big5": "big5", "sjis": "shift_jis", "cp932": "cp932", "ujis": "euc_jp", "euckr": "euc_kr",
}  # fmt: skip
_UTF8MB4: Final = 45  # utf8mb4_general_ci, if the event doesn't say


def _client_collation(status: bytes) -> int:
    """The collation id of the client's character set. Codes stand in the order that Query_log_event::write gives them;
    lengths: flags2 4, sql_mode 8, catalog 1+n, auto_increment 4, charset 6."""
    at = 0
    while at < len(status):
        code = status[at]
        if code == 4:
            return int.from_bytes(status[at + 1 : at + 3], "little")
        if code in (0, 3):
            at += 5
        elif code == 1:
            at += 9
        elif code == 6:
            at += 2 + status[at + 1]
        else:
            break
    return _UTF8MB4


def uuid_text(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _damaged(what: str) -> BinlogDamaged:
    return BinlogDamaged(
        what,
        hint="Run `mysqlbinlog --verify-binlog-checksum` on the source's file; if it is sound, the network bent it: retry.",
    )
