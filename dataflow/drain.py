"""SIGTERM and SIGINT ask the dataflow to drain: stop reading, commit the open window, exit 0.

Bytewax itself dies at once of SIGTERM, and of SIGINT without flushing; only the end of the input drains. Handlers are
installed when this module is imported in the main thread, and sources look at `requested()` in next_batch.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

_requested = threading.Event()


def requested() -> bool:
    return _requested.is_set()


def request(signum: int | None = None, frame: FrameType | None = None) -> None:
    """Ask for it; a second signal of the same kind then has its usual effect."""
    _requested.set()
    if signum is not None:
        signal.signal(signum, signal.SIG_DFL)


def install() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, request)
        signal.signal(signal.SIGINT, request)


install()
