"""A loopback TCP proxy in front of a server that loses, delays, cuts and bends what passes, on demand.

    with TcpProxy(server.host, server.port) as proxy:
        rowback = Rowback(folder, server, port=proxy.port)
        proxy.cut_after(1000)       # the connections break when 1,000 more bytes have come from the server
        proxy.blackhole()           # nothing passes and nothing is closed, as behind a dead router
        proxy.resume()

What is asked for holds for all connections, those of now and later ones.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

CHUNK_BYTES = 65536
# SO_LINGER with a time of 0: close(2) sends RST and drops what isn't sent (socket(7), tcp(7)).
_RESET = struct.pack("ii", 1, 0)


class TcpProxy:
    """cuts: how many connections were broken by order. passed: bytes from the server so far."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = self.passed = 0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._ended = False
        self._refusing = False
        self._rate: float | None = None
        self._cut_at: int | None = None
        self._flip_at: int | None = None

    # --- faults

    def reset(self) -> None:
        """RST to both ends of every connection."""
        self._break(reset=True)

    def blackhole(self) -> None:
        """Nothing passes any more; connections stay open, and new ones are accepted and never answered."""
        self._flowing.clear()

    def refuse(self) -> None:
        """Break all connections; new ones end at once."""
        self._refusing = True
        self._break(reset=False)

    def throttle(self, bytes_per_s: float | None) -> None:
        self._rate = bytes_per_s

    def cut_after(self, size_bytes: int) -> None:
        """Break the connections once that many more bytes have come from the server: in the middle of a packet, mostly."""
        self._cut_at = self.passed + size_bytes

    def flip_after(self, size_bytes: int) -> None:
        """Invert one bit of the byte that many bytes further on."""
        self._flip_at = self.passed + size_bytes

    def redirect(self, host: str, port: int) -> None:
        """Break all connections; new ones go to another server, as after a failover."""
        self._upstream = (host, port)
        self._break(reset=False)

    def resume(self) -> None:
        """Everything passes again. What a blackhole has held back is lost with its connections."""
        self._rate = self._cut_at = self._flip_at = None
        self._refusing = False
        if not self._flowing.is_set():
            self._break(reset=False)
            self._flowing.set()

    # --- life

    def __enter__(self) -> TcpProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break(reset=False)

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._upstream, timeout=10)
            except OSError:  # the server is down
                client.close()
                continue
            server.settimeout(None)
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            for source, target, change in ((client, server, self._same), (server, client, self._bend)):
                threading.Thread(target=self._pump, args=(pair, source, target, change), daemon=True).start()

    def _pump(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        target: socket.socket,
        change: Callable[[bytes], bytes],
    ) -> None:
        try:
            while not self._ended:
                if not select.select([source], [], [], 0.2)[0]:
                    continue
                data = source.recv(CHUNK_BYTES if self._rate is None else max(1, int(self._rate / 20)))
                self._flowing.wait()
                if not data or pair not in self._pairs:
                    break
                target.sendall(change(data))
                if self._cut_at is not None and self.passed >= self._cut_at:
                    self._cut_at = None
                    self._break(reset=False)
                if self._rate is not None:
                    time.sleep(len(data) / self._rate)
        except (OSError, ValueError):  # ValueError: select of a closed socket
            pass
        finally:
            self._close(pair)

    def _same(self, data: bytes) -> bytes:
        return data

    def _bend(self, data: bytes) -> bytes:
        with self._lock:
            before, flip, cut = self.passed, self._flip_at, self._cut_at
            if cut is not None and before + len(data) > cut:
                data = data[: cut - before]
            self.passed = before + len(data)
            if flip is None or not before <= flip < self.passed:
                return data
            self._flip_at = None
        bent = bytearray(data)
        bent[flip - before] ^= 0x10
        return bytes(bent)

    def _break(self, *, reset: bool) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self.cuts += 1
            for end in pair:
                with contextlib.suppress(OSError):
                    if reset:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    else:
                        end.shutdown(socket.SHUT_RDWR)
                    end.close()

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.close()
