"""Running mydumper: its version and options, its process, what it says.

mydumper never takes a lock here and never sees a password on its command line: the account's password stands in a
defaults file of mode 0600 in the staging folder. It runs in a process group of its own, under a deadline, and whatever
goes wrong, `close` ends that group. Exit status 0 without a `metadata` file counts as failure (0.10 renames it from
`metadata.partial` at the very end).

Version differences (0.10.0 to 1.0.1): options are chosen from `--help`; 1.x must be told the server's version and needs
explain_format=TRADITIONAL on MySQL 9; 0.10's dump of MySQL 8 routines doesn't load, so routines are left out there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recovery.config import ServerSettings
from recovery.errors import DumperFailed, DumperMissing, NoSpace, SnapshotError
from recovery.snapshot.plan import Plan, carried
from recovery.source import ServerInfo

_VERSION: Final = re.compile(r"mydumper v?(\d+)\.(\d+)(?:\.(\d+))?")
_THREAD: Final = re.compile(r"Thread (\d+):? connected using MySQL connection ID (\d+)")
_TROUBLE: Final = re.compile(r"CRITICAL|ERROR|[Ee]rror|Could not|Couldn't|failed|No space")
_ROOM_LEFT: Final = 16 * 1024 * 1024  # less than this free in the staging folder is a full disk
_MAX_REGEX: Final = 30_000  # PCRE refuses patterns whose compiled form exceeds 64 kB
_END_GRACE_S: Final = 5.0


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
    text = f'[client]\npassword="{password}"\n[mydumper]\ninit-command="SET SESSION {", ".join(session)}"\n'
    path = folder / "mydumper.cnf"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def command(
    dumper: Dumper, server: ServerSettings, info: ServerInfo, plan: Plan, folder: Path, threads: int
) -> list[str]:
    """mydumper's command line. Writes the defaults file and the list of omitted tables into `folder`; the dump goes to
    `folder/dump`."""
    omit = folder / "omit.txt"
    omit.write_text("".join(f"{db}.{name}\n" for db, name in sorted(plan.omitted)), encoding="utf-8")
    argv = [dumper.program, f"--defaults-file={write_defaults(folder, server, info)}"]
    if server.host.startswith("/"):
        argv += ["--socket", server.host]
    else:  # to the client library, `localhost` is whatever server has the default socket
        argv += ["--host", "127.0.0.1" if server.host == "localhost" else server.host, "--port", str(server.port)]
    argv += ["--user", server.user, "--outputdir", str(folder / "dump"), "--threads", str(threads), "--verbose", "3"]
    argv += ["--triggers", "--events", "--regex", _regex(plan), "--omit-from-file", str(omit)]
    if server.ssl_ca:
        argv += ["--ssl", f"--ca={server.ssl_ca}"]
    if dumper.version >= (0, 11) or info.flavor == "mariadb":
        argv.append("--routines")
    if "sync-thread-lock-mode" in dumper.options:
        argv.append("--sync-thread-lock-mode=NO_LOCK")
    else:
        argv.append("--no-locks")
    argv += [f"--{name}" for name in ("skip-ddl-locks", "no-backup-locks") if name in dumper.options]
    if "server-version" in dumper.options:
        argv.append(f"--server-version={info.flavor}-{'.'.join(map(str, info.version_tuple))}")
    argv.append("--compress")
    return argv


def _regex(plan: Plan) -> str:
    """Matches `db.table` in the dumped databases only; never a system schema."""
    wanted = "|".join(re.escape(db) for db in plan.dumped_databases if carried(db))
    if 0 < len(wanted) <= _MAX_REGEX:
        return rf"^({wanted})\."
    return r"^(?!(mysql|sys|performance_schema|information_schema)\.)"


class DumpProcess:
    """One running mydumper. Use as a context manager: leaving it ends the process group."""

    def __init__(self, argv: list[str], folder: Path, timeout_s: float) -> None:
        self.folder = folder
        self.thread_ids: dict[int, int] = {}  # mydumper's thread number -> server connection id
        self._last: deque[str] = deque(maxlen=20)
        self._trouble: deque[str] = deque(maxlen=5)
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        folder.mkdir(parents=True, exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MYSQL_")} | {"LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            argv, cwd=folder.parent, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, name="mydumper-output", daemon=True)
        self._listener.start()

    def __enter__(self) -> DumpProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

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
        return len(
            {f.name.split(".sql")[0] for f in self.folder.iterdir() if "-schema" not in f.name and ".sql" in f.name}
        )

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
