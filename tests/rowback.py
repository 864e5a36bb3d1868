"""Runs the real `rowback` command in a process of its own, for tests that act as a user does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked

from recovery.failpoint import VARIABLE
from testservers import Server

COMMAND = (sys.executable, "-c", "from recovery.cli import main; main()")
ROOT = Path(__file__).resolve().parent.parent


class Rowback:
    """One configured server with its archive in `folder`. port: of a proxy in front of the server."""

    def __init__(
        self, folder: Path, server: Server, *, root: str | None = None, extra: str = "", s3: str = "", port: int = 0
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "rowback.toml"
        self.root = root or f"file://{folder}/archive"
        if "spool_folder" not in extra:  # the default one is shared by everything that this user runs
            extra = f'spool_folder = "{folder}/spool"\n{extra}'
        self.config.write_text(
            f'[archive]\nroot = "{self.root}"\n{s3}\n'
            f'[servers.shop]\nhost = "{server.host}"\nport = {port or server.port}\nuser = "{server.user}"\n'
            f'password_env = "ROWBACK_TEST_PASSWORD"\n{extra}\n'
        )
        self.environment = {
            **os.environ,
            "ROWBACK_CONFIG": str(self.config),
            "ROWBACK_TEST_PASSWORD": server.password,
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def run(self, *arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        done = forked.run(arguments, self.environment, self.folder, timeout)
        if done is None:
            done = subprocess.run(
                [*COMMAND, *arguments],
                env=self.environment,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        if check and done.returncode:
            raise AssertionError(
                f"rowback {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--format", "json").stdout)

    def start_capture(
        self, *arguments: str, failpoint: str = "", command: Sequence[str] = (*COMMAND, "capture")
    ) -> subprocess.Popen[bytes]:
        """failpoint: what recovery/failpoint.py takes. command: a capture that isn't the real one."""
        environment = {**self.environment, **({VARIABLE: failpoint} if failpoint else {})}
        with (self.folder / "capture.log").open("ab") as log:
            return subprocess.Popen([*command, *arguments], env=environment, cwd=self.folder, stdout=log, stderr=log)

    def catch_up(self, *arguments: str, timeout: float = 180) -> None:
        """A capture from the archive's end to the source's present; its output goes to the capture log."""
        options = ("--until-caught-up", *arguments)
        with (self.folder / "capture.log").open("ab") as log:
            files = (log.fileno(), log.fileno())
            process = forked.start(("capture", *options), self.environment, self.folder, files)
        process = process or self.start_capture(*options)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        assert status == 0, self.capture_log()[-3000:]

    def capture_log(self) -> str:
        path = self.folder / "capture.log"
        return path.read_text() if path.exists() else ""

    def wait_started(self, process: subprocess.Popen[bytes], count: int = 1) -> None:
        """Wait until `count` captures have started in this folder; fail at once if the process ends."""

        def started() -> bool:
            assert process.poll() is None or self.capture_log().count("capture started") >= count, self.capture_log()
            return self.capture_log().count("capture started") >= count

        wait_for(started, 60, "capture to start")


def drain(process: subprocess.Popen[bytes], timeout: float = 60) -> int:
    """SIGTERM, then the exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout)


def wait_settled(server: Server) -> None:
    """Until it has run for so long that what it logs from now on is surely of its own time zone (recovery/source.py)."""
    wait_for(
        lambda: int(server.execute("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1]) >= 3, 30, "the server's first seconds"
    )


def wait_for(condition: Any, timeout: float, what: str) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.05)
