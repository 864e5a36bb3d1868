"""How a capture is started: the dataflow as a process of its own, for the command line to become.

Needs the settings alone, no archive: this process is gone when the dataflow begins, and what it imports only delays that.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from recovery.config import Settings
from recovery.errors import ConfigError


@dataclass(frozen=True)
class CaptureRequest:
    """servers: the names of one or several. Where the first start begins (later ones go on at the archive's checkpoint) and
    when to end: at most one of from_gtid, from_position and from_earliest. skip_gap: go on behind the gap that the archive
    ends in. window_seconds: None takes the server section's. workers: threads that share the servers; process_id and
    addresses (`host:port` of each process, the same for all): one of several processes that do.
    metrics_port: None takes the settings' (plus process_id).
    json_errors: an error goes to stderr as a JSON object."""

    servers: tuple[str, ...]
    until_caught_up: bool = False
    window_seconds: float | None = None
    from_gtid: str | None = None
    from_position: str | None = None
    from_earliest: bool = False
    skip_gap: bool = False
    json_errors: bool = False
    workers: int = 1
    process_id: int | None = None
    addresses: tuple[str, ...] = ()
    metrics_port: int | None = None


@dataclass(frozen=True)
class Command:
    """A process to become: argv without secrets, and what to add to the environment."""

    argv: tuple[str, ...]
    environment: dict[str, str]


def capture_command(settings: Settings, request: CaptureRequest) -> Command:
    """The dataflow as a process of its own. Raises ConfigError for arguments that don't fit together and for a password
    that can't be had, before anything starts."""
    begins = [name for name in ("from_gtid", "from_position", "from_earliest") if getattr(request, name)]
    if len(begins) > 1:
        options = " and ".join("--" + name.replace("_", "-") for name in begins)
        raise ConfigError(f"{options} can't be given together", hint="Give one place to begin.")
    if request.from_position is not None:
        file, _, position = request.from_position.rpartition(":")
        if not file or not position.isdigit():
            raise ConfigError(
                f"`{request.from_position}` is no binlog position",
                hint="Write FILE:POSITION, for example binlog.000007:4.",
            )
    _check_shared(request)
    for name in request.servers:
        settings.server(name)
    argv = [sys.executable, "-P", "-m", "dataflow.run"]
    for name in request.servers:
        argv += ["--server", name]
    if settings.path is not None:
        argv += ["--config", str(settings.path)]
    if request.until_caught_up:
        argv.append("--until-caught-up")
    if request.window_seconds is not None:
        argv += ["--window-seconds", f"{request.window_seconds:g}"]
    if request.from_gtid is not None:
        argv += ["--from-gtid", request.from_gtid]
    if request.from_position is not None:
        argv += ["--from-position", request.from_position]
    if request.from_earliest:
        argv.append("--from-earliest")
    if request.skip_gap:
        argv.append("--skip-gap")
    if request.json_errors:
        argv += ["--format", "json"]
    if request.workers > 1:
        argv += ["--workers", str(request.workers)]
    if request.process_id is not None:
        argv += ["--process-id", str(request.process_id), "--addresses", ",".join(request.addresses)]
    port = request.metrics_port
    if port is None and settings.capture.metrics_port is not None and not request.until_caught_up:
        port = settings.capture.metrics_port + (request.process_id or 0)
    if port is not None:
        argv += ["--metrics-port", str(port)]
    return Command(tuple(argv), _environment())


def _check_shared(request: CaptureRequest) -> None:
    """Raises ConfigError where options for one server meet several, and for a half or wrong description of processes."""
    if len(set(request.servers)) < len(request.servers):
        raise ConfigError("a server is named twice", hint="Name each server once.")
    one = request.from_gtid or request.from_position or request.from_earliest or request.skip_gap
    if one and len(request.servers) > 1:
        raise ConfigError(
            "--from-... and --skip-gap are for one server at a time",
            hint="Run that server's first capture alone with --until-caught-up, then all of them together.",
        )
    addresses, number = request.addresses, request.process_id
    if (number is None) != (not addresses):
        raise ConfigError(
            "--process-id and --addresses go together",
            hint="Give every process the same --addresses HOST:PORT,HOST:PORT and its own --process-id from 0 on.",
        )
    if number is None:
        return
    if any(not host or not port.isdigit() for host, _, port in (a.rpartition(":") for a in addresses)):
        raise ConfigError(f"`{','.join(addresses)}` are no addresses", hint="Write HOST:PORT,HOST:PORT.")
    if not 0 <= number < len(addresses):
        raise ConfigError(
            f"--process-id {number} is none of the {len(addresses)} processes", hint="They count from 0 on."
        )


def _environment() -> dict[str, str]:
    """Bytewax's engine prints a backtrace of its own on every error unless told not to.

    -P keeps a folder named like a package of ours in the working directory from being run instead. A checkout that is
    not installed then needs its root named.
    """
    root = Path(__file__).resolve().parent.parent
    quiet = {"RUST_BACKTRACE": "0"}
    if "site-packages" in root.parts:
        return quiet
    return quiet | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))}
