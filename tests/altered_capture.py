"""A capture process whose protocol is broken on purpose, or whose patience is shortened: only tests run it.

    python tests/altered_capture.py ALTERATION[=VALUE] --until-caught-up ...

Each alteration patches the running process; nothing in the product knows of it. The broken ones are the negative control of
the fault suite: what they lose or double, tests/exactness.py must find.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import dataflow.run
import dataflow.stream
import recovery.archive.s3store
from recovery.archive import log, segments
from recovery.archive.actions import Segment
from recovery.archive.filestore import FileStore
from recovery.context import open_context
from recovery.errors import StoreUnavailable
from recovery.source import binlog_status, connect


def silence(seconds: str) -> None:
    """A source that sends nothing is lost after so many seconds."""
    dataflow.stream.SILENCE_S = float(seconds)  # type: ignore[misc]


def impatient(seconds: str) -> None:
    """An S3 request that isn't answered is given up after so many seconds."""
    recovery.archive.s3store.READ_TIMEOUT_S = int(seconds)


def none(_: str) -> None:
    """As it is: the twin of each broken one."""


def commit_before_upload(_: str) -> None:
    """Data objects are written only seconds later, while the commit that names them already stands."""
    put = FileStore.put

    def later(self: FileStore, key: str, body: bytes) -> None:
        threading.Thread(target=lambda: (time.sleep(5), put(self, key, body)), daemon=True).start()

    FileStore.put = later  # type: ignore[method-assign]


def checkpoint_ahead(_: str) -> None:
    """A start goes on at the source's present, not at what the last commit covers."""
    read = log.Log.read

    def ahead(self: log.Log, known: Any = None) -> Any:
        state = read(self, known)
        if state.checkpoint is None:
            return state
        with closing(connect(open_context(None, None).source())) as connection:
            file, position = binlog_status(connection)
        skipped = replace(
            state.checkpoint, file=file, position=position, transaction_file=None, transaction_position=None,
            transaction_digest=None, file_begun_at_us=None,
        )  # fmt: skip
        return replace(state, checkpoint=skipped)

    log.Log.read = ahead  # type: ignore[method-assign]


def no_read_back(_: str) -> None:
    """The first window's commit meets a store that refuses it with 503, and the writer takes it for written."""
    commits = 0

    def write(self: log.Log, state: Any, ours: Any) -> Any:
        nonlocal commits
        commits += 1
        body, after = log._checked(state, ours)
        try:
            if commits == 2:  # the first is the generation's
                raise StoreUnavailable("503", hint="")
            self._store.put_if_absent(self._layout.log_version(ours.version), body)
        except StoreUnavailable:
            pass
        return True, after

    log.Log._write = write  # type: ignore[method-assign]


def no_fence(_: str) -> None:
    """Generations aren't compared, and a commit overwrites whatever has its version."""
    log._check_fence = lambda state, generation: None
    FileStore.put_if_absent = FileStore.put  # type: ignore[method-assign]


def doubled_segments(_: str) -> None:
    """Each commit names every change segment twice, as a writer does that repeats its uploads and forgets the first."""
    commit = log.Log.commit

    def twice(self: log.Log, state: Any, build: Callable[[Any], Sequence[Any]], **kwargs: Any) -> Any:
        def doubled(head: Any) -> list[Any]:
            actions = list(build(head))
            for action in [a for a in actions if isinstance(a, Segment)]:
                again = replace(action, path=action.path.replace(".parquet", "0.parquet"))
                self._store.put(again.path, self._store.get(action.path))
                actions.append(again)
            return actions

        return commit(self, state, doubled, **kwargs)

    log.Log.commit = twice  # type: ignore[method-assign]


def lost_rows(_: str) -> None:
    """Change segments of more than one image lack their last."""
    encode = segments.encode_parquet

    def shorter(data: Any, *args: Any, **kwargs: Any) -> bytes:
        change = "_rb_op" in data.schema.names and data.num_rows > 1 and data["_rb_op"][-1].as_py() == "insert"
        return encode(data.slice(0, data.num_rows - 1) if change else data, *args, **kwargs)

    segments.encode_parquet = shorter


ALTERATIONS: dict[str, Callable[[str], None]] = {
    function.__name__: function
    for function in (
        silence, impatient, none,
        commit_before_upload, checkpoint_ahead, no_read_back, no_fence, doubled_segments, lost_rows,
    )
}  # fmt: skip


def command(alteration: str) -> tuple[str, ...]:
    """For Rowback.start_capture(command=...)."""
    return (sys.executable, __file__, alteration)


if __name__ == "__main__":
    name, _, value = sys.argv[1].partition("=")
    ALTERATIONS[name](value)
    sys.exit(dataflow.run.main(sys.argv[2:]))
