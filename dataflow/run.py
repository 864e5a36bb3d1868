"""`python -m dataflow.run`: the capture process that `rowback capture` becomes. Prints an error as the command line does."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from bytewax.run import cli_main

from dataflow import drain
from dataflow.capture import Options, flow
from dataflow.resume import Begin
from recovery.errors import RowbackError


def parse(arguments: Sequence[str]) -> tuple[Options, bool]:
    """The options, and whether errors go out as JSON. No secret is ever an argument."""
    parser = argparse.ArgumentParser(prog="rowback capture", description=__doc__)
    parser.add_argument("--config")
    parser.add_argument("--server")
    parser.add_argument("--until-caught-up", action="store_true")
    parser.add_argument("--window-seconds", type=float)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--skip-gap", action="store_true")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--from-gtid")
    begin.add_argument("--from-position")
    begin.add_argument("--from-earliest", action="store_true")
    given = parser.parse_args(arguments)
    options = Options(
        given.config,
        given.server,
        Begin(given.from_gtid, given.from_position, given.from_earliest, given.skip_gap),
        given.until_caught_up,
        given.window_seconds,
    )
    return options, given.format == "json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run capture to its end; the exit status is that of the error, 0 after a drain or when caught up."""
    options, as_json = parse(sys.argv[1:] if arguments is None else arguments)
    drain.install()
    with engine_output_aside() as aside:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        try:
            cli_main(flow(options))
        except BaseException as error:
            cause = rowback_error(error)
            if cause is None:
                aside.seek(0)
                sys.stderr.write(aside.read().decode(errors="replace"))
                raise
        else:
            return 0
        if as_json:
            print(json.dumps({"code": cause.code, "error": cause.message, "hint": cause.hint}), file=sys.stderr)
        else:
            print(f"ERROR [{cause.code}] {cause.message}\nHINT: {cause.hint}", file=sys.stderr)
        return cause.exit_status


@contextmanager
def engine_output_aside() -> Iterator[IO[bytes]]:
    """Keeps what Bytewax's engine writes to descriptor 2 (a Rust panic for each error of a source or sink) apart from
    Python's own standard error, which goes on as before."""
    with tempfile.TemporaryFile() as aside:
        sys.stderr.flush()
        own = os.dup(2)
        before, sys.stderr = sys.stderr, os.fdopen(os.dup(own), "w", buffering=1, errors="backslashreplace")
        os.dup2(aside.fileno(), 2)
        try:
            yield aside
        finally:
            sys.stderr.flush()
            os.dup2(own, 2)
            os.close(own)
            sys.stderr = before


def rowback_error(error: BaseException | None) -> RowbackError | None:
    """The error of ours inside what Bytewax raises around it, if there is one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, RowbackError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


if __name__ == "__main__":
    sys.exit(main())
