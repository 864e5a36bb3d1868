"""What Rowback is compared with, each as a process of its own: `python deploy/bench_peers.py raw|replication PORT FILE...`.

raw: takes the binlog off the socket in large reads into one buffer and looks at nothing of it: what server, loopback and
kernel can do. replication: mysql-replication's BinLogStreamReader over row events, touching each row, until `--rows` have
been seen. Each prints one JSON line: bytes or rows, transactions, and the seconds from the dump command to the last packet.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from typing import Any

import pymysql
from pymysql.constants import COMMAND

_NON_BLOCK = (
    1  # BINLOG_DUMP_NON_BLOCK (sql/rpl_constants.h): the server sends EOF at the binlog's end instead of waiting
)
_SERVER_ID = 987_654
_BUFFER = 4 << 20


def connect(port: int) -> Any:
    """TLS is used if the server offers it, as the other contenders do."""
    return pymysql.connect(host="127.0.0.1", port=port, user="root", password="", autocommit=True)


def raw(port: int, files: list[str], size: int) -> dict[str, float]:
    """Receive every packet from the first file's beginning to the end of the binlog."""
    connection = connect(port)
    with connection.cursor() as cursor:
        # As every replica does; without it the server sends events without their checksums.
        cursor.execute("SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'")
    started = time.perf_counter()
    body = struct.pack("<IHI", 4, _NON_BLOCK, _SERVER_ID) + files[0].encode()
    connection._execute_command(COMMAND.COM_BINLOG_DUMP, body)
    received = _drain(connection._sock, size)
    return {"bytes": received, "seconds": time.perf_counter() - started}


def _drain(sock: Any, size: int) -> int:
    """Bytes received up to the packet that ends the dump, which comes after at least `size` bytes.

    That packet is `05 00 00 <number> FE ....`: five bytes of EOF (MySQL's protocol manual, EOF_Packet), then silence. The
    stream in between isn't parsed, so that this costs nothing but receiving.
    """
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    total, tail = 0, b""
    while True:
        got = sock.recv_into(view)
        if not got:
            raise SystemExit("the server closed the connection")
        total += got
        tail = (tail + bytes(view[max(0, got - 9) : got]))[-9:]
        if total >= size and tail[:3] == b"\x05\x00\x00" and tail[4] == 0xFE:
            return total
        if total == got and view[4] == 0xFF:
            raise SystemExit(f"the server sent an error: {bytes(view[:got])!r}")


def replication(port: int, files: list[str], rows_wanted: int) -> dict[str, float]:
    """Iterate rows, asking for row events, GTIDs and XIDs alone; a transaction is an XID event."""
    from pymysqlreplication import BinLogStreamReader
    from pymysqlreplication.event import GtidEvent, XidEvent
    from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

    stream = BinLogStreamReader(
        connection_settings={"host": "127.0.0.1", "port": port, "user": "root", "passwd": ""},
        server_id=_SERVER_ID,
        blocking=False,
        resume_stream=True,
        log_file=files[0],
        log_pos=4,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent, GtidEvent, XidEvent],
    )
    rows = transactions = position = 0
    started = time.perf_counter()
    for event in stream:
        if isinstance(event, XidEvent):
            transactions += 1
            position = stream.log_pos
            if rows >= rows_wanted:
                break
        elif not isinstance(event, GtidEvent):
            rows += len(event.rows)
    seconds = time.perf_counter() - started
    stream.close()
    return {"rows": rows, "transactions": transactions, "bytes": position, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=("raw", "replication"))
    parser.add_argument("port", type=int)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rows", type=int, default=100_000, help="replication: how many to see")
    parser.add_argument("--size", type=int, default=0, help="raw: the binlog files' bytes")
    given = parser.parse_args()
    if given.peer == "raw":
        print(json.dumps(raw(given.port, given.files, given.size)))
    else:
        print(json.dumps(replication(given.port, given.files, given.rows)))


if __name__ == "__main__":
    main()
