"""Doctor: can this machine capture, dump and restore that server, and if not, what mends it?

Promises: every check runs that can run; a server or an archive that is down fails one check and skips the rest of its
own; advice never fails the report; nothing is written to the server, and to the archive only probe objects, which are
deleted again. Each failed or advised check says why it matters and gives the exact statement or command.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from recovery import doctor_binlog, doctor_server, source
from recovery.archive.store import check_put_if_absent
from recovery.checks import Check, Verdict, advice, fail, ok, skipped
from recovery.context import Context, program
from recovery.doctor_scratch import scratch_check
from recovery.errors import AccessDenied, ConfigError, RowbackError

_MYDUMPER_OLDEST = (0, 10)
_SERVER_CHECKS = "privileges, binlog, clock, tables"


@dataclass(frozen=True)
class Report:
    server: str
    address: str
    archive: str
    source: str | None
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """No check failed; skipped ones follow from a failed one, advice doesn't count."""
        return all(check.verdict is not Verdict.FAIL for check in self.checks)


def examine(context: Context, on_check: Callable[[Check], None] | None = None) -> Report:
    """Run every check. on_check: told of each result as it comes in."""
    found: list[Check] = []
    version: list[str] = []
    data_bytes: list[int] = []
    for check in _all_checks(context, version, data_bytes):
        found.append(check)
        if on_check:
            on_check(check)
    server = context.server
    return Report(
        server.name,
        server.host if server.host.startswith("/") else f"{server.host}:{server.port}",
        context.store.url,
        version[0] if version else None,
        tuple(found),
    )


def _all_checks(context: Context, version: list[str], data_bytes: list[int]) -> Iterator[Check]:
    yield from _password_checks(context)
    yield from _server_checks(context, version, data_bytes)
    yield from dumper_checks()
    yield from _archive_checks(context)
    yield staging_check(Path(tempfile.gettempdir()), data_bytes[0] if data_bytes else None)


def _password_checks(context: Context) -> Iterator[Check]:
    path = context.settings.password_file(context.server.name)
    if path is None or not path.exists():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield advice(
            "password file",
            f"`{path}` has mode {mode:04o}",
            "other users of this machine may read the password",
            f"chmod 0600 '{path}'",
        )
    else:
        yield ok("password file", f"`{path}` is readable by its owner only")


def _server_checks(context: Context, version: list[str], data_bytes: list[int]) -> Iterator[Check]:
    try:
        settings = context.source()
    except ConfigError as error:
        yield fail("password", error.message, "capture and snapshots log in to the server", error.hint)
        yield skipped("server", "reachability, login, " + _SERVER_CHECKS)
        return
    try:
        connection = source.connect(settings)
    except AccessDenied as error:
        yield ok("reachability", f"`{settings.host}:{settings.port}` answers")
        yield fail("login", error.message, "capture and snapshots log in to the server", error.hint)
        yield skipped("server", _SERVER_CHECKS)
        return
    except RowbackError as error:
        yield fail("reachability", error.message, "capture and snapshots need the server; restores don't", error.hint)
        yield skipped("server", "login, " + _SERVER_CHECKS)
        return
    with closing(connection):
        yield ok("reachability", f"`{settings.host}:{settings.port}` answers")
        try:
            facts = doctor_server.read_facts(connection, context.now())
        except RowbackError as error:
            yield fail("server", error.message, "doctor could not read the server's state", error.hint)
            return
    yield ok("login", f"as `{facts.account}` to {facts.flavor} {facts.version}")
    version.append(f"{facts.flavor} {facts.version}")
    data_bytes.append(facts.data_bytes)
    try:
        source.check_filter(settings, int(facts.variables.get("lower_case_table_names", "0")))
    except ConfigError as error:
        yield fail("filter", error.message, "such tables would not be captured, or not be left out", error.hint)
    wanted = tuple(table for table in facts.tables if settings.wants(table.db, table.name))
    yield from doctor_server.checks(replace(facts, tables=wanted))
    if settings.failover:
        yield doctor_binlog.failover_check(facts)
    yield from _scratch_checks(context, facts)


def _scratch_checks(context: Context, facts: doctor_server.Facts) -> Iterator[Check]:
    try:
        scratch = context.scratch()
    except ConfigError as error:
        yield fail("scratch server", error.message, "statements are replayed there", error.hint)
        return
    if scratch is not None:
        yield scratch_check(scratch, facts.flavor, facts.version, facts.variables)


def dumper_checks() -> Iterator[Check]:
    """mydumper is needed for snapshots, myloader is one of two ways to load a restore."""
    for name, why in (("mydumper", "snapshots are taken with it"), ("myloader", "restored dumps load fastest with it")):
        path = program(name)
        if path is None:
            check = fail if name == "mydumper" else advice
            yield check(
                name, "not found on PATH", why, "apt-get install mydumper   (or a package from its project's releases)"
            )
            continue
        version = _version(path)
        text = ".".join(str(n) for n in version) if version else "unknown version"
        if version and version < _MYDUMPER_OLDEST:
            yield fail(
                name,
                f"{text} is too old, 0.10 is the oldest that works",
                why,
                "apt-get install --only-upgrade mydumper",
            )
        else:
            yield ok(name, f"{text} at `{path}`")


def _version(path: Path) -> tuple[int, ...]:
    try:
        done = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", done.stdout + done.stderr)
    return tuple(int(n) for n in match.groups()) if match else ()


def _archive_checks(context: Context) -> Iterator[Check]:
    url = context.store.url
    needs = "snapshots and changes are kept there"
    try:
        state = context.log.read()
    except RowbackError as error:
        yield fail("archive", error.message, needs, error.hint)
        yield skipped("archive write", "a write, put-if-absent")
        return
    yield ok(
        "archive", f"`{url}` answers, log version {state.version}" if state.version else f"`{url}` answers, still empty"
    )
    key = f"{context.layout.prefix}probe/doctor"
    try:
        context.store.put(key, b"rowback doctor")
        context.store.delete(key)
    except RowbackError as error:
        yield fail("archive write", error.message, needs, error.hint)
        yield skipped("archive put-if-absent", "two writes of one name")
        return
    yield ok("archive write", "an object can be written and deleted")
    why = "it keeps two captures from overwriting each other's commits; there is no weaker mode"
    try:
        check_put_if_absent(context.store, context.layout.prefix)
    except RowbackError as error:
        yield fail("archive put-if-absent", error.message, why, error.hint)
    else:
        yield ok("archive put-if-absent", "the second write of a name is refused")


def staging_check(folder: Path, data_bytes: int | None) -> Check:
    """Snapshots and restores stage files in the temporary folder. data_bytes: the tables' size; None: not known."""
    free = shutil.disk_usage(folder).free
    text = f"{_size(free)} free in `{folder}`"
    if data_bytes is None or free > data_bytes:
        return ok("staging space", text)
    return advice(
        "staging space",
        f"{text}, the server's tables have {_size(data_bytes)}",
        "a snapshot is staged there (compressed) before it is uploaded, a restore copies what it needs",
        "point TMPDIR at a folder with more space",
    )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
