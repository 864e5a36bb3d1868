"""The way to the store, which may be away: what is put waits, or goes to the local spool.

Promises: `put` returns when the object is durable, in the store or in the spool. Where the spool has no room, or there is
none, `put` waits: for as long as it takes with a spool, for STORE_PATIENCE_S without one, and for DRAIN_PATIENCE_S once
capture was asked to end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from dataflow import drain
from dataflow.commits import Archive
from dataflow.health import ServerHealth, State
from dataflow.spool import Spool
from recovery.errors import StoreError, StoreFull, StoreUnavailable

DRAIN_PATIENCE_S = 20  # how long a store may be away once capture was asked to end
STORE_PATIENCE_S = 300  # how long it may be away before a capture without a spool gives up
TELL_S = 60  # between two lines that say that capture is paused
RETRY_S = 15.0
T = TypeVar("T")
log = logging.getLogger("rowback.capture")


class Uplink:
    """One archive's. kept_s: asks how long the source keeps its binlog in seconds, None for ever or unknown; for the log."""

    def __init__(
        self, archive: Archive, health: ServerHealth, kept_s: Callable[[], float | None] = lambda: None
    ) -> None:
        self._archive = archive
        self._health = health
        self._kept_s = kept_s
        self.spool = Spool(archive.spool_folder or Path(), archive.spool_bytes)
        self._usable: bool | None = None if archive.spool_folder and archive.spool_bytes else False
        self._changed = threading.Condition()
        self._away = False
        self._tries = 0  # threads that put into the store right now
        self._tried_at = 0.0
        self._told_at = 0.0
        self._paused = False
        self._closed = False
        self.reached_us = 0  # up to where windows are closed: the source must keep its binlog from there on

    def put(self, key: str, body: bytes) -> None:
        """Make an object durable, in the store or in the spool. Raises StoreUnavailable when patience is over."""
        wait = Waiting(self)
        full = False
        while True:
            if self._begin_try(full):
                try:
                    self._archive.store.put(key, body)
                except StoreUnavailable as error:
                    self.lost(error)
                    wait.error = error
                else:
                    self.back()
                    return
                finally:
                    self._end_try()
            if self.spooling():
                try:
                    self.spool.put(key, body)
                except StoreFull as error:
                    full = True
                    self.full(error)
                else:
                    self.room()
                    return
            wait.next()

    def patiently(self, action: Callable[[], T]) -> T:
        """Repeat what needs the store itself. Raises StoreUnavailable when patience is over."""
        wait = Waiting(self)
        while True:
            try:
                return action()
            except StoreUnavailable as error:
                self.lost(error)
                wait.error = error
                wait.next()

    def _begin_try(self, full: bool) -> bool:
        """Whether to put into the store itself. While it is away that is left to whoever commits what is in the spool, for a
        store that doesn't answer at all costs a minute or more; with no room in the spool one thread at a time tries."""
        with self._changed:
            if self._away and (not full or self._tries or time.monotonic() < self._tried_at + RETRY_S):
                return False
            self._tries += 1
            return True

    def _end_try(self) -> None:
        with self._changed:
            self._tries -= 1
            self._tried_at = time.monotonic()

    @property
    def away(self) -> bool:
        with self._changed:
            return self._away

    def lost(self, error: StoreUnavailable) -> None:
        """The store didn't answer."""
        usable = self.spooling()
        with self._changed:
            first, self._away = not self._away, usable
        if first or not usable:
            log.warning("store unavailable code=%s spool=%s", error.code, self.spool.folder if usable else "none")

    def back(self) -> None:
        """The store answers."""
        with self._changed:
            was, self._away = self._away, False
        if was:
            log.info("store back")
        self.room()

    def full(self, error: StoreFull) -> None:
        """Capture pauses, for the spool has no room: say so, and until when the source keeps what isn't read."""
        with self._changed:
            now = time.monotonic()
            if self._paused and now < self._told_at + TELL_S:
                return
            self._paused, self._told_at = True, now
        self._health.now(State.PAUSED, error.message)
        kept = self._kept_s()
        until = "unknown"
        if kept is not None:
            until = f"{datetime.fromtimestamp(self.reached_us / 1e6, UTC) + timedelta(seconds=kept):%Y-%m-%dT%H:%M:%SZ}"
        log.warning("capture paused reason=%s binlog_kept_until=%s", error.message, until)

    def room(self) -> None:
        """There is room again."""
        with self._changed:
            was, self._paused = self._paused, False
        if was:
            log.info("capture goes on")
            self._health.now(State.RUNNING)

    def spooling(self) -> bool:
        """Whether there is a spool that this process may use; finds out once."""
        with self._changed:
            if self._usable is None:
                try:
                    self._usable = self.spool.acquire()
                    reason = "another process has it"
                    if self._usable:
                        self.spool.clear()  # what is there was looked at when capture began, or is a fenced capture's
                except StoreError as error:
                    self._usable, reason = False, error.message
                if not self._usable:
                    log.warning("spool not used folder=%s reason=%s", self.spool.folder, reason)
            return self._usable

    def sleep(self, seconds: float) -> bool:
        """Wait; True if it was closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, seconds)

    def close(self) -> None:
        """Whoever waits gives up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Waiting:
    """One thread's waiting for the store or for room in the spool. error: the store's last."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink
        self._began = time.monotonic()
        self._pause_s = 0.5
        self.error = StoreUnavailable("the store is away", hint="Check the store and the network.")

    def next(self) -> None:
        """Wait a little; raises the error when patience is over."""
        spooling = self._uplink.spooling()
        patience = float("inf") if spooling else STORE_PATIENCE_S
        if drain.requested():
            patience = DRAIN_PATIENCE_S
        if time.monotonic() + self._pause_s > self._began + patience or self._uplink.sleep(self._pause_s):
            raise self.error
        self._pause_s = min(self._pause_s * 2, 2.0 if spooling else 15.0)
