"""`python -m dataflow.run`: the capture process that `rowback capture` becomes. Prints an error as the command line does."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Final

from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from dataflow import drain
from dataflow.capture import Options, build
from dataflow.kernels import warm
from dataflow.metrics import MetricsServer
from dataflow.resume import Begin
from recovery.errors import PeerLost, RowbackError

SHARED_EPOCH_S: Final = 0.5


@dataclass(frozen=True)
class Cluster:
    """How many workers share the servers. addresses: of all processes, this one's at process_id; empty for one process.
    metrics_port: of 127.0.0.1, for this process's figures."""

    workers: int = 1
    process_id: int | None = None
    addresses: tuple[str, ...] = ()
    metrics_port: int | None = None


def parse(arguments: Sequence[str]) -> tuple[Options, Cluster, bool]:
    """The options, the workers, and whether errors go out as JSON. No secret is ever an argument."""
    parser = argparse.ArgumentParser(prog="rowback capture", description=__doc__)
    parser.add_argument("--config")
    parser.add_argument("--server", action="append", default=[])
    parser.add_argument("--until-caught-up", action="store_true")
    parser.add_argument("--window-seconds", type=float)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--skip-gap", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--addresses", default="")
    parser.add_argument("--metrics-port", type=int)
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--from-gtid")
    begin.add_argument("--from-position")
    begin.add_argument("--from-earliest", action="store_true")
    given = parser.parse_args(arguments)
    options = Options(
        given.config,
        tuple(given.server),
        Begin(given.from_gtid, given.from_position, given.from_earliest, given.skip_gap),
        given.until_caught_up,
        given.window_seconds,
    )
    addresses = tuple(filter(None, given.addresses.split(",")))
    cluster = Cluster(given.workers, given.process_id, addresses, given.metrics_port)
    return options, cluster, given.format == "json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run capture to its end; the exit status is that of the first error, 0 after a drain or when all caught up."""
    options, cluster, as_json = parse(sys.argv[1:] if arguments is None else arguments)
    drain.install()
    # What was imported lives to the end: collections needn't look at it again (with the thresholds of dataflow/__init__.py
    # a tenth of the processor time on the benchmark's OLTP set).
    gc.freeze()
    errors: list[tuple[str | None, RowbackError]] = []
    with engine_output_aside() as aside:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        health = None
        try:
            warm.ahead()
            dataflow, health, targets = build(options)
            if cluster.metrics_port is not None:
                MetricsServer(health, cluster.metrics_port, targets)
            _run(dataflow, cluster)
        except BaseException as error:
            cause = rowback_error(error) or _peer_lost(error, cluster)
            if cause is None:
                aside.seek(0)
                sys.stderr.write(aside.read().decode(errors="replace"))
                raise
            errors.append((None, cause))
        if health is not None:
            several = len(options.servers) > 1
            errors = [(name if several else None, error) for name, error in health.errors()] + errors
        for server, found in errors:
            _print(server, found, as_json=as_json)
        return errors[0][1].exit_status if errors else 0


def _run(dataflow: Dataflow, cluster: Cluster) -> None:
    # A worker takes up to an epoch's worth of input before it waits for the other workers to have written it.
    epoch = timedelta(seconds=10 if cluster.workers == 1 and not cluster.addresses else SHARED_EPOCH_S)
    cli_main(
        dataflow,
        workers_per_process=cluster.workers,
        process_id=cluster.process_id,
        addresses=list(cluster.addresses) or None,
        epoch_interval=epoch,
    )


def _peer_lost(error: BaseException, cluster: Cluster) -> RowbackError | None:
    """What the engine's panic means when it has connections to other processes."""
    if not cluster.addresses or type(error).__name__ != "PanicException":
        return None
    return PeerLost(
        "another process of this capture has ended or can't be reached",
        hint="Start all of them again with the same --addresses; each server goes on where its archive ends.",
    )


def _print(server: str | None, error: RowbackError, *, as_json: bool) -> None:
    if as_json:
        named = {} if server is None else {"server": server}
        print(json.dumps({"code": error.code, "error": error.message, "hint": error.hint} | named), file=sys.stderr)
    else:
        named_text = "" if server is None else f"server `{server}`: "
        print(f"ERROR [{error.code}] {named_text}{error.message}\nHINT: {error.hint}", file=sys.stderr)


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
