"""Named places at which a test makes this process die, raise, stop or wait: `failpoint("log.before-put")`.

Off unless ROWBACK_FAILPOINT is set when the process starts, and then a call is one look at an empty tuple:

    ROWBACK_FAILPOINT="segment.uploaded:3:kill, log.after-put:1:stop"        name[:nth[:action]], nth from 1, action kill

Each entry acts once, at the nth time that its place is passed. Promises: a name that isn't in PLACES is refused, so a test
can't wait for a place that was renamed; what is hit says so on standard error first. It is for tests alone: it changes
nothing but the moment at which the process ends or waits.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "ROWBACK_FAILPOINT"

# Every place, with what has happened there. A test walks the code: each is passed somewhere, and no other name is.
PLACES: Final = {
    "capture.before-generation": "the source answers; the archive isn't taken over yet",
    "capture.generation": "the archive is taken over; nothing is read yet",
    "stream.read": "an event was read from the socket; it isn't in the buffer yet",
    "source.mid-transaction": "events were taken from the buffer and the last one lies inside a transaction",
    "source.emit": "transactions are framed and leave the source step",
    "decode.batch": "a batch is decoded",
    "window.closed": "a window is closed and leaves the window step",
    "sink.window": "a window has arrived at the sink",
    "segment.encoded": "an object's Parquet bytes are made and not uploaded",
    "segment.uploaded": "an object is uploaded; no commit names it",
    "sink.part": "a part of a transaction beyond the memory budget is on its way to the store",
    "xa.pending": "the rows of a prepared XA transaction are uploaded; the commit that keeps them isn't made up",
    "xa.commit": "an XA COMMIT is about to write the pending rows as segments",
    "sink.uploaded": "all of a window's objects are uploaded; the commit isn't begun",
    "log.before-put": "a commit is made up; its put isn't begun",
    "log.after-put": "the store has answered a commit's put; the answer isn't handled",
    "sink.committed": "a window's commit is known to stand",
    "spool.append": "a window's objects are in the local spool; the window isn't",
    "spool.appended": "a window is in the local spool",
    "spool.uploaded": "a spooled window's objects are in the store; the commit isn't begun",
    "spool.committed": "a spooled window's commit is known to stand; it is still in the spool",
    "gap.before": "a gap is about to be recorded",
    "restore.table-written": "a table's files are written; the restore's record doesn't have them",
    "restore.table-recorded": "a table of a restore is recorded as finished",
    "replay.replayed": "a statement was replayed on the scratch server; what it left isn't read back",
    "roll-forward.table": "a table's new baseline is uploaded; no commit names it",
    "roll-forward.commit": "all of a synthetic snapshot is uploaded; its commit isn't begun",
    "restore.manifest": "a restore is whole but for its manifest",
}


class FailpointHit(Exception):
    """The action `raise`."""


@dataclass
class _Armed:
    name: str
    nth: int
    act: Callable[[], None]
    passed: int = 0


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    """As a machine that sleeps: every thread stands still until SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def _stall() -> None:
    """This thread never goes on; the others do."""
    threading.Event().wait()


def _raise() -> None:
    raise FailpointHit("by order of the test")


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


ACTIONS: Final[dict[str, Callable[[], None]]] = {
    "kill": _kill,
    "stop": _stop,
    "stall": _stall,
    "raise": _raise,
    "full": _full,
}


def parse(text: str) -> tuple[_Armed, ...]:
    """The armed places of the variable's value. Raises ValueError for an unknown name, count or action."""
    armed = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, rest = entry.partition(":")
        nth, _, action = rest.partition(":")
        if name not in PLACES or not (nth or "1").isdigit() or (action or "kill") not in ACTIONS:
            raise ValueError(f"`{entry}` in {VARIABLE} is not a place[:nth[:action]]")
        armed.append(_Armed(name, max(1, int(nth or 1)), ACTIONS[action or "kill"]))
    return tuple(armed)


_armed = parse(os.environ.get(VARIABLE, ""))
_lock = threading.Lock()


def failpoint(name: str) -> None:
    """A named place. Does nothing unless it is armed."""
    if _armed:
        _pass(name)


def _pass(name: str) -> None:
    for entry in _armed:
        if entry.name != name:
            continue
        with _lock:
            entry.passed += 1
            hit = entry.passed == entry.nth
        if hit:
            sys.stderr.write(f"failpoint hit place={name} nth={entry.nth}\n")
            sys.stderr.flush()
            entry.act()
