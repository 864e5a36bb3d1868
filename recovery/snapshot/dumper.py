"""Running mydumper: its version and options, its process, what it says.

mydumper never takes a lock here and never sees a password on its command line: the account's password stands in a
defaults file of mode 0600 in the staging folder. It runs in a process group of its own, under a deadline, and whatever
goes wrong, `close` ends that group; it dies with the thread that started it, even when that is killed. The password file is
removed as soon as all connections are open. Exit status 0 without a `metadata` file counts as failure (0.10 renames it from
`metadata.partial` at the very end).

Version differences (0.10.0 to 1.0.1): options are chosen from `--help`; 1.x must be told the server's version, needs
explain_format=TRADITIONAL on MySQL 9, and connects by the [client] group alone where the file has one (common.c,
initialize_common_options); 0.10's dump of MySQL 8 routines doesn't load, so routines are left out there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recovery.config import ServerSettings
from recovery.errors import DumperFailed, DumperMissing, NoSpace, SnapshotError
from recovery.snapshot.plan import Plan, carried_database
from recovery.source import ServerInfo

DEFAULTS: Final = "mydumper.cnf"
_VERSION: Final = re.compile(r"mydumper v?(\d+)\.(\d+)(?:\.(\d+))?")
_THREAD: Final = re.compile(r"Thread (\d+):? connected using MySQL connection ID (\d+)")
_TROUBLE: Final = re.compile(r"CRITICAL|ERROR|[Ee]rror|Could not|Couldn't|failed|No space")
_DATA_FILE: Final = re.compile(r"(.+?)(?:\.\d{5,})*\.sql")  # 1.x cuts tables into numbered files
_ROOM_LEFT: Final = 16 * 1024 * 1024  # less than this free in the staging folder is a full disk
_MAX_REGEX: Final = 30_000  # PCRE refuses patterns whose compiled form exceeds 64 kB
_END_GRACE_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: not between fork and exec


@dataclass(frozen=True)
class Dumper:
    """The program, its version and the long options that it knows."""

    program: str
    version: tuple[int, ...]
    options: frozenset[str]

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def find_dumper(program: str = "mydumper") -> Dumper:
    """Raises DumperMissing if there is none on PATH, or one that doesn't say which version it is."""
    path = shutil.which(program)
    if path is None:
        raise DumperMissing("`mydumper` is not on PATH", hint="Install it: apt-get install mydumper (0.10 or newer).")
    try:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
        usage = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DumperMissing(f"`{path}` can't be run: {error}", hint="Reinstall mydumper.") from error
    found = _VERSION.search(version)
    if found is None or (int(found[1]), int(found[2])) < (0, 10):
        raise DumperMissing(
            f"`{path}` is not a mydumper 0.10 or newer: {version.strip()[:100]}", hint="Install mydumper 0.10 or newer."
        )
    return Dumper(
        path, tuple(int(n or 0) for n in found.groups()), frozenset(re.findall(r"--([a-z][a-z0-9-]+)", usage))
    )


def write_defaults(folder: Path, server: ServerSettings, info: ServerInfo) -> Path:
    """The 0600 file with the password and the session's settings, which keep the escaping and the text of values
    independent of the server's global sql_mode."""
    session = ["sql_mode=''"]
    if info.flavor == "mysql" and info.version_tuple >= (8, 4):
        session.append("explain_format='TRADITIONAL'")
    password = server.password.get_secret_value().replace("\\", "\\\\").replace('"', '\\"')
    text = f'[client]\npassword="{password}"\ninit-command="SET SESSION {", ".join(session)}"\n'
    path = folder / DEFAULTS
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


@dataclass(frozen=True)
class Run:
    """One mydumper to start. folder: where its dump goes. threads: how many of its connections read."""

    argv: tuple[str, ...]
    folder: Path
    threads: int


def runs(
    dumper: Dumper, server: ServerSettings, info: ServerInfo, plan: Plan, folder: Path, threads: int
) -> tuple[Run, ...]:
    """The mydumpers that dump a plan, with one defaults file and one list of omitted tables in `folder`: one of them into
    `folder/dump`, or one per database into folders beside it."""
    omit = folder / "omit.txt"
    omit.write_text("".join(f"{db}.{name}\n" for db, name in sorted(plan.omitted)), encoding="utf-8")
    first = [dumper.program, f"--defaults-file={write_defaults(folder, server, info)}"]
    first += [*_login(server), "--verbose", "3", "--triggers", "--omit-from-file", str(omit)]
    if plan.events:
        first.append("--events")
    if dumper.version >= (0, 11) or info.flavor == "mariadb":
        first.append("--routines")
    if "sync-thread-lock-mode" in dumper.options:
        first.append("--sync-thread-lock-mode=NO_LOCK")
    else:
        first.append("--no-locks")
    first += [f"--{name}" for name in ("skip-ddl-locks", "no-backup-locks") if name in dumper.options]
    if "server-version" in dumper.options:
        first.append(f"--server-version={info.flavor}-{'.'.join(map(str, info.version_tuple))}")
    first.append("--compress")

    def run(databases: Sequence[str], name: str, count: int) -> Run:
        argv = [*first, "--outputdir", str(folder / name), "--threads", str(count), "--regex", _regex(databases)]
        if len(databases) == 1:  # else it visits every database of the server
            argv += ["--database", databases[0]]
        return Run(tuple(argv), folder / name, count)

    names = plan.dumped_databases
    if not plan.separate:
        return (run(names, "dump", threads),)
    share = max(1, threads // len(names))
    return tuple(run([db], f"dump.{n}", share) for n, db in enumerate(names))


def _login(server: ServerSettings) -> list[str]:
    if server.host.startswith("/"):
        given = ["--socket", server.host]
    else:  # to the client library, `localhost` is whatever server has the default socket
        given = ["--host", "127.0.0.1" if server.host == "localhost" else server.host, "--port", str(server.port)]
    given += ["--user", server.user]
    if server.ssl_cert:
        given += [f"--cert={server.ssl_cert}", f"--key={server.ssl_key}"]
    return [*given, "--ssl", f"--ca={server.ssl_ca}"] if server.ssl_ca else given


def _regex(databases: Sequence[str]) -> str:
    """Matches `db.table` in these databases only; never a system schema."""
    wanted = "|".join(re.escape(db) for db in databases if carried_database(db))
    if 0 < len(wanted) <= _MAX_REGEX:
        return rf"^({wanted})\."
    return r"^(?!(mysql|sys|performance_schema|information_schema)\.)"


def _die_with_parent() -> None:
    """Runs in the child before mydumper: SIGKILL when the starting thread ends (prctl(2), PR_SET_PDEATHSIG)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class DumpProcess:
    """One running mydumper."""

    def __init__(self, run: Run, timeout_s: float) -> None:
        self.folder = folder = run.folder
        self.threads = run.threads
        self.ended = False
        self.thread_ids: dict[int, int] = {}  # mydumper's thread number -> server connection id
        self._last: deque[str] = deque(maxlen=20)
        self._trouble: deque[str] = deque(maxlen=5)
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        folder.mkdir(parents=True, exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MYSQL_")} | {"LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            run.argv, cwd=folder.parent, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_die_with_parent,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, name="mydumper-output", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode("utf-8", "replace").strip()
            found = _THREAD.search(line)
            if found:
                self.thread_ids[int(found[1])] = int(found[2])
            elif line:
                self._last.append(line)
                if _TROUBLE.search(line):
                    self._trouble.append(line)

    def check(self) -> bool:
        """Whether it has ended well. Raises DumperFailed or NoSpace if it failed, took too long or filled the disk."""
        free = shutil.disk_usage(self.folder).free
        status = self._process.poll()
        if free < _ROOM_LEFT and status != 0:
            raise NoSpace(
                f"the staging folder `{self.folder.parent}` is full: {free} bytes are left",
                hint="Free space there, or name a larger folder with --staging-dir (or TMPDIR).",
            )
        if status is None:
            if time.monotonic() > self._deadline:
                raise self._failed(f"didn't end within {self._timeout_s:.0f} s")
            return False
        self._listener.join(_END_GRACE_S)
        if status != 0:
            raise self._failed(f"ended with status {status}")
        if not (self.folder / "metadata").is_file():
            raise self._failed("ended with status 0 but left no `metadata` file")
        return True

    def _failed(self, what: str) -> SnapshotError:
        said = " | ".join(self._trouble or list(self._last)[-5:]) or "nothing"
        if "No space left" in said:
            return NoSpace(
                f"mydumper filled the staging folder `{self.folder.parent}`",
                hint="Free space there, or name a larger folder with --staging-dir (or TMPDIR).",
            )
        return DumperFailed(f"mydumper {what}; it said: {said}", hint="Mend what it complains about and start again.")

    def written_bytes(self) -> int:
        """The size of the dump so far."""
        total = 0
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # metadata.partial is renamed
                total += path.stat().st_size
        return total

    def tables_started(self) -> int:
        """How many tables' data mydumper has begun to dump, by the file names so far."""
        found = (_DATA_FILE.match(f.name) for f in self.folder.iterdir() if "-schema" not in f.name)
        return len({match[1] for match in found if match})

    def close(self) -> None:
        """End the process group if it still runs: SIGTERM, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(_END_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
        self._listener.join(_END_GRACE_S)
        if self._process.stdout is not None and not self._listener.is_alive():
            self._process.stdout.close()


class Dump:
    """The mydumpers of one snapshot, and the folder that holds their whole dump once all have ended well. Use as a
    context manager: leaving it ends them."""

    def __init__(self, started: Sequence[Run], folder: Path, timeout_s: float) -> None:
        self._folder = folder
        self._secret = folder.parent / DEFAULTS
        self._processes: list[DumpProcess] = []
        self._whole = False
        try:
            for run in started:
                self._processes.append(DumpProcess(run, timeout_s))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Dump:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def threads(self) -> int:
        """How many reading connections there will be."""
        return sum(process.threads for process in self._processes)

    def connections(self) -> frozenset[int]:
        """The server's ids of the reading connections so far, of the mydumpers that still run."""
        return frozenset(
            n for process in self._processes if not process.ended for n in list(process.thread_ids.values())
        )

    def connected(self) -> bool:
        """Whether each mydumper has opened all its connections, or has ended."""
        return all(process.ended or len(process.thread_ids) >= process.threads for process in self._processes)

    def check(self) -> bool:
        """Whether all have ended well; then the dump is whole. Raises as DumpProcess.check does. Removes the password as
        soon as nobody needs it any more: each thread reads it when it connects, after the main connection."""
        if self._whole:
            return True
        if self.connected():
            self._secret.unlink(missing_ok=True)
        for process in self._processes:
            process.ended = process.ended or process.check()
        if not all(process.ended for process in self._processes):
            return False
        self._secret.unlink(missing_ok=True)
        self._merge()
        self._whole = True
        return True

    def _merge(self) -> None:
        """Bring the parts together. File names begin with the database's name, except for `metadata`: that of 1.x lists
        tables, that of 0.10 only says when it was."""
        self._folder.mkdir(exist_ok=True)
        for part in (process.folder for process in self._processes if process.folder != self._folder):
            for path in sorted(part.iterdir()) if part.is_dir() else ():
                target = self._folder / path.name
                if path.name != "metadata":
                    path.rename(target)
                elif "[config]" in (text := path.read_text(encoding="utf-8", errors="replace")) or not target.exists():
                    with target.open("a", encoding="utf-8") as file:
                        file.write(text)
            shutil.rmtree(part, ignore_errors=True)

    def written_bytes(self) -> int:
        return 0 if self._whole else sum(process.written_bytes() for process in self._processes)

    def tables_started(self) -> int:
        return 0 if self._whole else sum(process.tables_started() for process in self._processes)

    def close(self) -> None:
        for process in self._processes:
            process.close()
        self._secret.unlink(missing_ok=True)
