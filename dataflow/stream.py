"""The replication connection: the bytes of a server's binlog stream, in order, through a bounded buffer.

mysql-replication makes the connection (handshake, TLS, heartbeat setting, replica registration, the dump
command); its event classes and value decoders are not used. A thread reads the socket so that the dataflow never blocks;
what the bytes mean is for dataflow/framer.py.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import numpy as np
import pymysql
from pymysql.constants import COMMAND
from pymysqlreplication import BinLogStreamReader

from dataflow.blocks import Blocks
from recovery.config import ServerSettings
from recovery.errors import BinlogDamaged, BinlogPurged, PrivilegeMissing, RowbackError, SourceDiverged, SourceError
from recovery.failpoint import failpoint
from recovery.source import Connection, connect, source_error

HEARTBEAT_S: Final = 2
SILENCE_S: Final = 30  # no packet for this long, heartbeats included: the connection is dead
BUFFERED_BYTES: Final = 8 * 1024 * 1024
CHUNK_BYTES: Final = 1024 * 1024
_LAST_POSITION: Final = 0xFFFFFFFF  # COM_BINLOG_DUMP has 4 bytes for it
# ER_MASTER_FATAL_ERROR_READING_BINLOG: purged file, position past the end, or a replica id used twice.
_FATAL_READING: Final = 1236
# What a server says of a place where no event starts; the size of an event is read from whatever stands there.
_NO_EVENT: Final = (
    "position > file size", "impossible position", "bogus data", "truncated in the middle", "exceeded max_allowed_packet",
)  # fmt: skip
_SEND_ANNOTATE: Final = 0x02  # BINLOG_SEND_ANNOTATE_ROWS_EVENT: without them MariaDB's position chain has holes


class EventStream:
    """The packets from (file, position) on, as bytes. `close` ends the thread and the connection."""

    def __init__(self, server: ServerSettings, flavor: str, server_id: int, file: str, position: int) -> None:
        if position > _LAST_POSITION:
            raise SourceError(
                f"`{file}:{position}` lies beyond 4 GiB, where a dump can't begin",
                hint="Run `FLUSH BINARY LOGS` on the source and start capture again.",
            )
        self._server = server
        self._buffer: queue.SimpleQueue[tuple[np.ndarray, int] | RowbackError] = queue.SimpleQueue()
        self._next: tuple[np.ndarray, int] | RowbackError | None = None  # taken from it and not yet handed out
        self._room = threading.Condition()
        self._buffered = 0
        self._closed = False
        # mysql-replication's file:position branch serves MariaDB as well; its `is_mariadb` branch takes no file name.
        self._reader: Any = BinLogStreamReader(
            connection_settings={},
            server_id=server_id,
            blocking=True,
            resume_stream=True,
            log_file=file,
            log_pos=position,
            slave_heartbeat=HEARTBEAT_S,
            report_slave={"hostname": "rowback", "username": "", "password": "", "port": 0},
            enable_logging=False,
            pymysql_wrapper=self._connect if flavor == "mysql" else self._connect_mariadb,
        )
        # It would announce what binlog_checksum is now, while the files to be read may be of another time: see `_connect`.
        self._reader._BinLogStreamReader__checksum_enabled = lambda: False
        try:
            self._reader._BinLogStreamReader__connect_to_stream()
        except (pymysql.MySQLError, OSError) as error:
            raise _start_error(error, server) from error
        self._thread = threading.Thread(target=self._read, name="binlog-reader", daemon=True)
        self._thread.start()

    def take(self, budget_bytes: int, wait_s: float = 0.0) -> list[tuple[np.ndarray, int]]:
        """Bytes (uint8) that have arrived, each with its arrival time (microseconds since the epoch), up to about this many.
        wait_s: for how long to wait if there are none. Raises what ended the stream once all before it has been taken."""
        taken: list[tuple[np.ndarray, int]] = []
        size = 0
        while size < budget_bytes:
            try:
                item = self._next or self._buffer.get(block=wait_s > 0 and not taken, timeout=wait_s or None)
            except queue.Empty:
                break
            self._next = None
            if taken and (isinstance(item, RowbackError) or item[0].base is not taken[-1][0].base):
                self._next = item  # bytes of one block at a time, so that they need not be joined
                break
            if isinstance(item, RowbackError):
                raise item
            taken.append(item)
            size += len(item[0])
        if size:
            with self._room:
                self._buffered -= size
                self._room.notify()
        return taken

    def ended(self, packet: bytes, *, began: bool) -> RowbackError:
        """What the packet says with which the server ended the stream. began: whether any event of the place where the
        stream was asked to begin has arrived. Layout: the manual's "ERR_Packet"."""
        if packet[:1] != b"\xff":
            return SourceError(
                "the server ended the binlog stream", hint="It is shutting down or was asked to: start again."
            )
        number = int.from_bytes(packet[1:3], "little")
        text = packet[9:] if packet[3:4] == b"#" else packet[3:]
        return _stream_error(
            pymysql.err.OperationalError(number, text.decode(errors="replace")), self._server, began=began
        )

    def close(self) -> None:
        self._closed = True
        with self._room:
            self._room.notify()
        sock = getattr(getattr(self._reader, "_stream_connection", None), "_sock", None)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)

    def _connect(self, **settings: Any) -> Connection:
        """Who can read checksums gets files with and without them, each as its FORMAT_DESCRIPTION says; what stands before
        the first one has a CRC32 (init_checksum_alg in MySQL's sql/rpl_binlog_sender.cc, MariaDB's sql/sql_repl.cc)."""
        connection = connect(self._server, read_timeout=SILENCE_S)
        with connection.cursor() as cursor:
            # MySQL before 8.0.26 and MariaDB know the old name alone.
            cursor.execute("SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'")
        return connection

    def _connect_mariadb(self, **settings: Any) -> Connection:
        connection: Any = self._connect()
        write: Callable[[bytes], None] = connection._write_bytes

        def with_annotate(packet: bytes) -> None:
            # length 4, command 1, position 4, flags 2: the library offers no way to set this flag with a file name.
            if len(packet) > 10 and packet[4] == COMMAND.COM_BINLOG_DUMP:
                packet = packet[:9] + bytes([packet[9] | _SEND_ANNOTATE]) + packet[10:]
            write(packet)

        connection._write_bytes = with_annotate
        return connection  # type: ignore[no-any-return]

    def _read(self) -> None:
        connection = self._reader._stream_connection
        sock: socket.socket = connection._sock
        try:
            sock.settimeout(SILENCE_S)
            blocks = Blocks()
            block, at = blocks.take(), blocks.headroom
            while not self._closed:
                if len(block) - at < CHUNK_BYTES // 4:
                    del block  # this thread may get it again
                    block, at = blocks.take(), blocks.headroom
                size = sock.recv_into(memoryview(block.data)[at : at + CHUNK_BYTES])
                if size == 0:
                    raise OSError("the server closed the connection")
                failpoint("stream.read")
                data = block[at : at + size]
                at += size
                with self._room:
                    while self._buffered > BUFFERED_BYTES and not self._closed:
                        self._room.wait(1)
                    self._buffered += size
                self._buffer.put((data, time.time_ns() // 1000))
        except OSError as error:
            self._buffer.put(source_error(error, self._server))
        except RowbackError as error:
            self._buffer.put(error)
        finally:
            with suppress(OSError):
                connection._force_close()


def _start_error(error: BaseException, server: ServerSettings) -> RowbackError:
    """The login has worked by now, so a denial is of the replica's registration (1045 from COM_REGISTER_SLAVE)."""
    if error.args and error.args[0] in (1045, 1227):
        return PrivilegeMissing(
            f"the account `{server.user}` may not read the binlog: {error.args[-1]}",
            hint=f"An administrator runs: GRANT REPLICATION SLAVE ON *.* TO '{server.user}'@'%';",
        )
    return source_error(error, server)


def _stream_error(error: BaseException, server: ServerSettings, *, began: bool) -> RowbackError:
    """began: see `EventStream.ended`."""
    if not error.args or error.args[0] != _FATAL_READING:
        return source_error(error, server)
    message = str(error.args[-1])
    if "Could not find first log file" in message or "purged" in message:
        return BinlogPurged(
            f"the server can't send the binlog from where capture stopped: {message}",
            hint="Keep binlogs longer (binlog_expire_logs_seconds), go on with `rowback capture --skip-gap`, and take a new "
            "snapshot; what was captured stays restorable.",
        )
    if "same server_uuid/server_id" in message or "same server id" in message.lower():
        return SourceError(
            f"another replica with capture's server id has connected: {message}",
            hint="Another capture of this server runs; only one can.",
        )
    if not began and any(text in message for text in _NO_EVENT):
        return SourceDiverged(
            f"the source's binlog has no event where the archive ends: {message}",
            hint="The server was reset or restored from a backup. Start a new archive (another tenant or server name) and "
            "take a snapshot; this one stays restorable up to its last checkpoint.",
        )
    return BinlogDamaged(
        f"the server can't read its own binlog: {message}",
        hint="Check the file with `mysqlbinlog --verify-binlog-checksum`. What stands before it is in the archive.",
    )
