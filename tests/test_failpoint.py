"""Failpoints: off by default, refused when misspelt, and every place of the list is really in the code."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recovery import failpoint

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = (
    "from recovery.failpoint import failpoint\nfor n in range(4): failpoint('log.before-put'); print(n, flush=True)"
)


def test_every_place_is_passed_and_every_passed_place_is_listed() -> None:
    passed = {
        node.args[0].value
        for package in ("recovery", "dataflow")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "failpoint"
        and isinstance(node.args[0], ast.Constant)
    }
    assert passed == set(failpoint.PLACES)


@pytest.mark.parametrize("text", ["nowhere", "log.before-put:x", "log.before-put:1:explode", "log.before-put:-1"])
def test_what_isnt_a_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a place"):
        failpoint.parse(text)
    done = run(SCRIPT, text)
    assert done.returncode == 1
    assert b"is not a place" in done.stderr


def test_without_the_variable_nothing_happens() -> None:
    done = run(SCRIPT, "")
    assert (done.returncode, done.stdout) == (0, b"0\n1\n2\n3\n")


@pytest.mark.parametrize(("spec", "printed"), [("log.before-put", b""), ("log.before-put:3", b"0\n1\n")])
def test_kill_at_the_nth_passing(spec: str, printed: bytes) -> None:
    done = run(SCRIPT, spec)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, printed)
    assert b"failpoint hit place=log.before-put" in done.stderr


def test_raise_and_full() -> None:
    assert b"FailpointHit" in run(SCRIPT, "log.after-put, log.before-put:2:raise").stderr
    assert b"No space left" in run(SCRIPT, "log.before-put:2:full").stderr


def test_stop_sleeps_until_it_is_woken() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, failpoint.VARIABLE: "log.before-put:2:stop", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=30)[0] == b"0\n1\n2\n3\n"


def run(script: str, spec: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, failpoint.VARIABLE: spec, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, timeout=60)
