"""A loopback HTTP proxy in front of an S3 stand-in that loses, delays and refuses answers on demand.

    with FaultProxy("http://127.0.0.1:5000") as proxy:
        proxy.fail("PUT", "/log/", Fault.CUT_AFTER)      # the next PUT of a log object happens; its answer is lost
        store = S3Store(..., endpoint_url=proxy.url)

Faults are used up one per matching request, in the order in which they were given; all else is passed on unchanged.
"""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Fault(Enum):
    CUT_BEFORE = "the request never arrives, the connection breaks"
    CUT_AFTER = "the request is carried out, then the connection breaks without an answer"
    CUT_BODY = "the request is carried out, half of the answer's body arrives"
    STALL_AFTER = "the request is carried out, the answer never comes"
    UNAVAILABLE = "503 SlowDown, not carried out"
    UNAVAILABLE_AFTER = "carried out, then 503 InternalError"
    CONFLICT = "409 ConditionalRequestConflict, not carried out"
    CONFLICT_AFTER = "carried out, then 409 ConditionalRequestConflict"
    DENIED = "403 AccessDenied"
    WRONG_KEY = "403 InvalidAccessKeyId"
    WRONG_SECRET = "403 SignatureDoesNotMatch"
    NOT_IMPLEMENTED = "501 NotImplemented"
    DROP_CONDITION = "carried out without its If-None-Match header, as a store does that doesn't know it"


_BEFORE = {
    Fault.UNAVAILABLE: (503, "SlowDown"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
    Fault.DENIED: (403, "AccessDenied"),
    Fault.WRONG_KEY: (403, "InvalidAccessKeyId"),
    Fault.WRONG_SECRET: (403, "SignatureDoesNotMatch"),
    Fault.NOT_IMPLEMENTED: (501, "NotImplemented"),
}
_AFTER = {
    Fault.UNAVAILABLE_AFTER: (503, "InternalError"),
    Fault.CONFLICT_AFTER: (409, "ConditionalRequestConflict"),
}


@dataclass
class _Order:
    method: str
    part: str
    fault: Fault
    left: int


class FaultProxy:
    """upstream: the stand-in's address. served: (method, path, fault or None) of each request, in order."""

    def __init__(self, upstream: str) -> None:
        parts = urllib.parse.urlsplit(upstream)
        assert parts.hostname is not None
        self.upstream = (parts.hostname, parts.port or 80)
        self.served: list[tuple[str, str, Fault | None]] = []
        self.ended = threading.Event()
        self._orders: list[_Order] = []
        self._gone = False
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(self, method: str, part: str, fault: Fault, times: int = 1) -> None:
        """Let the next `times` requests of this method whose path contains `part` meet `fault`."""
        with self._lock:
            self._orders.append(_Order(method, part, fault, times))

    def pending(self) -> int:
        """How many faults no request has met yet."""
        with self._lock:
            return sum(order.left for order in self._orders)

    def away(self, gone: bool) -> None:
        """Every request meets a broken connection until the store is back."""
        self._gone = gone

    def take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            fault = Fault.CUT_BEFORE if self._gone else None
            for order in self._orders:
                if fault is None and order.left and order.method == method and order.part in path:
                    order.left -= 1
                    fault = order.fault
                    break
            self.served.append((method, path, fault))
            return fault

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: FaultProxy
    protocol_version = "HTTP/1.1"  # answers `Expect: 100-continue` itself

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def _serve(self) -> None:
        owner = self.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = owner.take(self.command, self.path)
        if fault is Fault.CUT_BEFORE:
            return self._cut()
        if fault in _BEFORE:
            return self._refuse(*_BEFORE[fault])
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "connection")}
        if fault is Fault.DROP_CONDITION:
            headers = {k: v for k, v in headers.items() if k.lower() != "if-none-match"}
        connection = http.client.HTTPConnection(*owner.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if fault is Fault.CUT_AFTER:
            return self._cut()
        if fault is Fault.STALL_AFTER:
            owner.ended.wait(60)
            return self._cut()
        if fault in _AFTER:
            return self._refuse(*_AFTER[fault])
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault is Fault.CUT_BODY:
            self.wfile.write(content[: len(content) // 2])
            return self._cut()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815 - the base class's names

    def _cut(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by order</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
