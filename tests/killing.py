"""Captures that are killed, one after another, at chosen places and at random moments, while writers go on."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from rowback import Rowback, wait_for

from recovery.context import open_context

# Failpoints that any run under load passes, and up to which time of passing one is killed.
UNDER_LOAD = {
    "capture.before-generation": 1,
    "capture.generation": 1,
    "stream.read": 400,
    "source.mid-transaction": 1,
    "source.emit": 6,
    "decode.batch": 6,
    "window.closed": 3,
    "sink.window": 3,
    "segment.encoded": 9,
    "segment.uploaded": 9,
    "xa.pending": 2,
    "xa.commit": 2,
    "sink.uploaded": 3,
    "log.before-put": 4,  # the first is the generation's
    "log.after-put": 4,
    "sink.committed": 3,
}
PATIENCE_S = 120


@dataclass
class Killer:
    """Starts and kills captures of one archive. killed: how often at which place ("random" for none)."""

    rowback: Rowback
    rng: random.Random
    arguments: tuple[str, ...] = ("--window-seconds", "0.1")
    killed: Counter[str] = field(default_factory=Counter)

    def at(self, place: str, nth: int | None = None, provoke: Callable[[], object] | None = None) -> None:
        """Kill a capture when it passes a place for the nth time. It must come there. provoke: called again and again
        until it has."""
        deadline = time.monotonic() + PATIENCE_S
        nth = nth or self.rng.randint(1, UNDER_LOAD.get(place, 1))
        started = self.rowback.capture_log().count("capture started")
        process = self.rowback.start_capture(*self.arguments, failpoint=f"{place}:{nth}:kill")
        try:
            if provoke is not None:
                self.rowback.wait_started(process, started + 1)
                while process.poll() is None and time.monotonic() < deadline:
                    provoke()
                    time.sleep(0.05)
            status = process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            process.kill()
            process.wait()
        assert status == -signal.SIGKILL, f"{place}:{nth}: {status}\n{self.rowback.capture_log()[-2000:]}"
        assert f"failpoint hit place={place}" in self.rowback.capture_log(), self.rowback.capture_log()[-2000:]
        self.killed[place] += 1

    def randomly(self, *, behind_commit: bool) -> None:
        """Kill a capture at a moment after its start, perhaps behind a commit of its own."""
        started = self.rowback.capture_log().count("capture started")
        process = self.rowback.start_capture(*self.arguments)
        try:
            self.rowback.wait_started(process, started + 1)
            if behind_commit:
                done = self.rowback.capture_log().count("window committed")
                wait_for(lambda: self.rowback.capture_log().count("window committed") > done, PATIENCE_S, "a window")
            time.sleep(self.rng.uniform(0, 0.8))
            assert process.poll() is None, self.rowback.capture_log()[-2000:]
        finally:
            process.kill()
            process.wait()
        self.killed["random"] += 1

    def check_log(self) -> int:
        """The archive's newest seq. The log must read whole after every kill."""
        return open_context(self.rowback.config).log.read().last_seq
