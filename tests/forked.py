"""Runs the real `rowback` command in a process of its own that is forked from one which has its modules loaded already.

A test run starts the command thousands of times, and most of a short command's time goes into imports. What a user starts is
the same but for that: tests of the start itself, of memory and of kills start it anew (tests/rowback.py, `start_capture`).
A command whose environment differs in more than what the command itself reads is started anew, too.
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
_CAPTURE: Final = ("-P", "-m", "dataflow.run")  # what `rowback capture` becomes
_READ_AT_CALL: Final = ("ROWBACK_", "XDG_", "AWS_", "PYTEST_")
_LARGEST: Final = 1 << 20
_connect = socket.socket.connect  # as it is before tests/conftest.py takes it away from unit tests


class Forked:
    """A command that runs; what the tests use of subprocess.Popen."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = int(connection.recv(32).decode())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                answer = self._connection.recv(32).decode()
            except TimeoutError:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from None
            assert answer, "the process that forks is gone"
            self.returncode = int(answer)
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)  # it isn't waited for before its status is read, so the pid is its own
            self.wait()


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float
) -> subprocess.CompletedProcess[str] | None:
    """The command to its end; None if it must be started anew. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(arguments, environment, folder, (out.fileno(), err.fileno()))
        if process is None:
            return None
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        texts = [(file.seek(0), file.read().decode())[1] for file in (out, err)]
    return subprocess.CompletedProcess(list(arguments), status, *texts)


def start(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, files: tuple[int, int]
) -> Forked | None:
    """files: stdout and stderr. None if it must be started anew."""
    address, loaded_with = _server()
    if _fixed(environment) != loaded_with:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _connect(connection, address)
    request = json.dumps({"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)})
    connection.sendmsg([request.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
    return Forked(connection)


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    """What is read while modules load, or by the interpreter."""
    own = {"PYTHONPATH", "COLUMNS"}
    return {k: v for k, v in environment.items() if not k.startswith(_READ_AT_CALL) and k not in own}


@cache
def _server() -> tuple[str, dict[str, str]]:
    """The address of this process's own, which ends with it, and the environment that it loaded modules in."""
    folder = tempfile.mkdtemp(prefix="rowback-forks-")
    address = f"{folder}/socket"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}  # a thread isn't forked along
    subprocess.Popen([sys.executable, "-P", __file__, address, str(os.getpid())], env=environment, cwd="/")
    deadline = time.monotonic() + 120
    while not os.path.exists(address):
        assert time.monotonic() < deadline, "the process that forks didn't start"
        time.sleep(0.05)
    return address, _fixed(os.environ)


# --- the process that forks -------------------------------------------------------------------------------------------


def _load() -> None:
    import dataflow
    import recovery
    from dataflow.kernels.warm import warm

    for name in ("boto3", "botocore.session", "duckdb", "pyarrow.dataset", "pyarrow.parquet"):
        importlib.import_module(name)
    for package in (recovery, dataflow):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    warm()


def _serve(address: str, parent: int) -> None:
    _load()
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{address}.new")
    listener.listen(64)
    os.rename(f"{address}.new", address)
    running: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while os.getppid() == parent:
            for key, _ in selector.select(1):
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    pid = _fork(connection, [listener, selector, *(s for _, s in running.values())])
                    ended = os.pidfd_open(pid)
                    running[ended] = pid, connection
                    selector.register(ended, selectors.EVENT_READ)
                    connection.send(str(pid).encode())
                else:
                    ended = key.fd
                    pid, connection = running.pop(ended)
                    selector.unregister(ended)
                    os.close(ended)
                    _, status = os.waitpid(pid, 0)
                    with suppress(OSError):  # who asked is gone
                        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
                    connection.close()
    os.unlink(address)
    os.rmdir(os.path.dirname(address))


def _fork(connection: socket.socket, ours: Sequence[Any]) -> int:
    request, found, _, _ = connection.recvmsg(_LARGEST, socket.CMSG_SPACE(8))
    (_, _, raw), *_ = found
    out, err = array.array("i", raw)
    pid = os.fork()
    if pid:
        os.close(out)
        os.close(err)
        return pid
    status = 1
    try:
        for file in (*ours, connection):
            file.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        status = _become(**json.loads(request))
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _become(arguments: list[str], environment: dict[str, str], folder: str) -> int:
    from recovery import cli, failpoint

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    failpoint._armed = failpoint.parse(os.environ.get(failpoint.VARIABLE, ""))
    os.execve = _become_capture  # type: ignore[assignment]
    sys.argv = ["-c", *arguments]
    cli.main()
    return 0


def _become_capture(path: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    from dataflow import run

    assert tuple(argv[1:4]) == _CAPTURE, argv
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [run.__file__, *argv[4:]]
    sys.exit(run.main())


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
