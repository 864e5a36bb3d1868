"""The real `rowback` command as a user meets it: results, errors, exit statuses, on real servers."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rowback import COMMAND, ROOT, Rowback

from recovery import cli, cli_commands
from recovery.errors import RowbackError
from testservers import MySQLServer, Server

DB = "cli_shop"


def error_of(done: subprocess.CompletedProcess[str], status: int, code: str) -> str:
    """The message of a failed command, which must be ERROR and HINT, and nothing else that looks like a crash."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("ERROR"))
    assert lines[at].startswith(f"ERROR [{code}] ")
    assert lines[at + 1].startswith("HINT: ")
    assert lines[at + 1] != "HINT: "
    return lines[at]


# --- without a server -------------------------------------------------------------------------------------------------


def command_line(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ROWBACK_")}
    isolated = {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(cwd), "XDG_CONFIG_DIRS": str(cwd)}
    return subprocess.run(
        [*COMMAND, *arguments],
        env=clean | isolated | environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def commands() -> dict[str, Any]:
    return {name: cli_commands.command(name) for name in typer.main.get_group(cli.app).commands}


def test_every_command_has_help_with_examples_that_parse() -> None:
    found = commands()
    assert set(found) == {
        "capture", "snapshot", "status", "changes", "undo", "restore", "doctor", "init",
        "index", "compact", "sweep", "verify", "roll-forward",
    }  # fmt: skip
    for name, command in found.items():
        assert command.help, name
        examples = [line.strip() for line in command.epilog.splitlines() if line.strip().startswith("rowback ")]
        assert examples, name
        for example in examples:
            words = shlex.split(example)
            assert words[:2] == ["rowback", name]
            command.make_context(name, words[2:])


def test_every_option_is_described() -> None:
    for name, command in commands().items():
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_version_and_help(tmp_path: Path) -> None:
    assert command_line("--version", cwd=tmp_path).stdout.startswith("rowback ")
    assert "Examples:" in command_line("restore", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize("arguments", [(), ("index",)])
def test_a_group_alone_shows_its_help(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = command_line(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(" ".join(("Usage: rowback", *arguments)))
    assert "Commands:" in done.stderr
    assert done.stdout == ""


def test_no_configuration(tmp_path: Path) -> None:
    message = error_of(command_line("status", cwd=tmp_path), 2, "config")
    assert "no rowback.toml was found" in message


@pytest.mark.parametrize(
    "arguments",
    [("stats",), ("status", "--formt", "json"), ("status", "--format", "xml"), ("changes",), ("undo", "--limit", "x")],
)
def test_wrong_arguments_exit_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    error_of(command_line(*arguments, cwd=tmp_path), 2, "usage")


def test_errors_as_json(tmp_path: Path) -> None:
    for arguments in (["status", "--format", "json"], ["restore", "--format=json", "--nonsense"]):
        done = command_line(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        error = json.loads(done.stderr)
        assert error["code"] in ("config", "usage")
        assert error["error"]
        assert error["hint"]
        assert done.stdout == ""


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A folder with a rowback.toml whose server nobody listens for."""
    text = f'[archive]\nroot = "file://{tmp_path}/archive"\n[servers.shop]\nport = 1\n'
    (tmp_path / "rowback.toml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("snapshot",), 3, "source_unreachable"),
        (("changes", "--table", "a.b"), 5, "archive_missing"),
        (("undo", "--table", "a.b", "--limit", "1"), 5, "archive_missing"),
        (("undo", "--table", "a.b"), 2, "config"),
        (("restore", "--to", "latest", "--dry-run"), 5, "archive_missing"),
        (("restore", "--to", "latest"), 2, "config"),
        (("restore", "--output", "x"), 2, "config"),
        (("restore", "--to", "latest", "--dry-run", "--tables", ""), 2, "config"),
        (("restore", "--to", "latest", "--dry-run", "--exclude", ","), 2, "config"),
        (("restore", "--to", "latest", "--dry-run", "--memory", "much"), 2, "config"),
        (("restore", "--to", "latest", "--dry-run", "--memory", "1MiB"), 2, "config"),
        (("restore", "--before", "2026-01-01", "--dry-run"), 2, "config"),
        (("restore", "--before", "0-1-7", "--dry-run"), 5, "archive_missing"),
        (("capture", "--from-earliest", "--from-gtid", "x:1"), 2, "config"),
        (("capture", "--from-position", "nowhere"), 2, "config"),
        (("status", "--server", "crm"), 2, "config"),
    ],
)
def test_errors_and_exit_statuses(configured: Path, arguments: tuple[str, ...], status: int, code: str) -> None:
    error_of(command_line(*arguments, cwd=configured), status, code)
    assert sorted(p.name for p in configured.iterdir()) == ["rowback.toml"]  # nothing half-written


def test_before_takes_no_time_and_says_what_does(configured: Path) -> None:
    for when in ("2026-01-01", "2026-01-01 10:00:00"):
        done = command_line("restore", "--before", when, "--dry-run", cwd=configured)
        assert "is no GTID" in error_of(done, 2, "config")
        assert "time works too" not in done.stderr
        assert "for the state at a time give `--to`" in done.stderr


def test_capture_ends_with_the_error_alone(configured: Path) -> None:
    done = command_line("capture", "--until-caught-up", cwd=configured)
    assert "127.0.0.1:1" in error_of(done, 3, "source_unreachable")


def test_status_needs_no_server(configured: Path) -> None:
    done = command_line("status", cwd=configured)
    assert done.returncode == 0
    assert "nothing captured yet" in done.stdout


def test_unexpected_errors_ask_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], configured: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("recovery.operations.status", fail)
    arguments = ["--config", str(configured / "rowback.toml"), "status"]
    assert cli.run(arguments) == 1
    plain = capsys.readouterr().err
    assert plain.startswith("ERROR [unexpected] unexpected ZeroDivisionError: oops\nHINT: This is a bug")
    assert "Traceback" not in plain
    assert cli.run(["--debug", *arguments]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, EOFError])
def test_interrupts_exit_with_130(
    monkeypatch: pytest.MonkeyPatch, configured: Path, error: type[BaseException]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("recovery.operations.status", interrupt)
    assert cli.run(["--config", str(configured / "rowback.toml"), "status"]) == 130


def test_a_full_disk_has_the_status_of_a_full_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], configured: Path
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/x")

    monkeypatch.setattr("recovery.operations.status", full)
    assert cli.run(["--config", str(configured / "rowback.toml"), "status"]) == 4
    assert capsys.readouterr().err.startswith("ERROR [store_full] `/x`: no space left")


def test_a_closed_pipe_is_no_error(configured: Path) -> None:
    command = " ".join(map(shlex.quote, [*COMMAND, "changes", "--help"]))
    shell = f"set -o pipefail; {command} | head -c 1; exit ${{PIPESTATUS[0]}}"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", shell], cwd=configured, env=environ, capture_output=True, text=True, check=False
    )
    assert "BrokenPipe" not in done.stderr
    assert "Traceback" not in done.stderr


def all_errors(kind: type[RowbackError] = RowbackError) -> Iterator[type[RowbackError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from all_errors(child)


def test_the_runbook_has_every_error_code() -> None:
    runbook = (ROOT / "docs" / "RUNBOOK.md").read_text()
    for kind in all_errors():
        if kind.__module__ == "recovery.errors" and not kind.__subclasses__():
            row = next((line for line in runbook.splitlines() if line.startswith(f"| `{kind.code}` |")), None)
            assert row is not None, f"docs/RUNBOOK.md has no row for `{kind.code}`"
            assert f"| {kind.exit_status} |" in row, row


# --- init -------------------------------------------------------------------------------------------------------------


def test_init_writes_the_file_and_runs_doctor(mysql_source: MySQLServer, tmp_path: Path) -> None:
    arguments = ["init", "--name", "shop", "--user", "root", "--root", f"file://{tmp_path}/archive"]
    server = ["--host", mysql_source.host, "--port", str(mysql_source.port)]
    done = command_line(*arguments, *server, cwd=tmp_path, SHOP_PASSWORD="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready:" in done.stdout
    assert "SHOP_PASSWORD" in done.stdout
    again = command_line(*arguments, *server, cwd=tmp_path, SHOP_PASSWORD="")
    assert "exists already" in error_of(again, 2, "config")
    without = command_line(*arguments, *server, "--force", cwd=tmp_path)
    assert without.returncode == 1
    assert "FAIL    password: the environment variable `SHOP_PASSWORD`" in without.stdout


# --- the main job, once, on a real server -----------------------------------------------------------------------------


class Story:
    """A captured accident: five rows, a snapshot, an UPDATE of all and a DELETE of one."""

    def __init__(self, server: MySQLServer, folder: Path) -> None:
        self.server = server
        self.rowback = Rowback(folder, server, extra=f'include = ["{DB}.*"]')
        server.execute(f"CREATE DATABASE {DB}")
        server.execute(f"CREATE TABLE {DB}.orders (id INT PRIMARY KEY, name VARCHAR(20), amount DECIMAL(10,2))")
        self.rowback.run("capture", "--until-caught-up")
        server.execute(f"INSERT INTO {DB}.orders VALUES (1,'ä',1.5),(2,'b\n',2.5),(3,NULL,3.5),(4,'d',4.5),(5,'e',5.5)")
        self.snapshot = self.rowback.json("snapshot")
        self.before = self.rows()
        server.execute(f"UPDATE {DB}.orders SET amount = amount * 2")
        server.execute(f"DELETE FROM {DB}.orders WHERE id = 3")
        self.waiting = self.rowback.json("status")
        self.rowback.run("capture", "--until-caught-up")

    def rows(self) -> tuple[tuple[Any, ...], ...]:
        return self.server.execute(f"SELECT * FROM {DB}.orders ORDER BY id")


@pytest.fixture(scope="module")
def story(mysql_source: MySQLServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    mysql_source.execute(f"DROP DATABASE IF EXISTS {DB}")
    yield Story(mysql_source, tmp_path_factory.mktemp("story"))
    mysql_source.execute(f"DROP DATABASE {DB}")


@pytest.mark.usefixtures("mydumper", "mysql_source")
class TestStory:
    def test_a_snapshot_is_not_usable_before_the_stream_has_passed_it(self, story: Story) -> None:
        (line,) = story.waiting["snapshots"]
        assert not line["usable"]
        assert "waiting for the stream" in line["reason"]
        assert story.waiting["live"]["bytes_behind"] > 0

    def test_status(self, story: Story) -> None:
        result = story.rowback.json("status")
        (line,) = result["snapshots"]
        assert line["usable"]
        assert line["rows"] == 5
        assert line["snapshot_id"] == story.snapshot["snapshot"]["snapshot_id"]
        assert result["coverage_from"]["at"] < result["last_window"]["to"] <= result["coverage_to"]["at"]
        assert result["row_changes"] == 5 + 5 + 1
        assert result["gaps"] == []
        assert 0 <= result["lag_s"] < 300
        text = story.rowback.run("status").stdout
        assert result["coverage_to"]["at"] in text
        assert line["snapshot_id"] in text

    def test_changes_in_all_formats(self, story: Story) -> None:
        arguments = ("changes", "--table", f"{DB}.orders", "--key", "3")
        found = story.rowback.json(*arguments)["changes"]
        assert [c["op"] for c in found] == ["delete", "update", "insert"]
        assert found[1]["before"] == {"id": 3, "name": None, "amount": "3.50"}
        assert found[1]["after"]["amount"] == "7.00"
        rows = list(csv.DictReader(io.StringIO(story.rowback.run(*arguments, "--format", "csv").stdout)))
        assert {row["op"] for row in rows} == {"delete", "update", "insert"}
        table = story.rowback.run(*arguments, "--oldest-first").stdout
        assert "amount: 3.50 -> 7.00" in table
        assert table.index("insert") < table.index("delete")

    def test_unknown_tables_are_refused_with_near_ones(self, story: Story) -> None:
        done = story.rowback.run("changes", "--table", f"{DB}.order", check=False)
        error_of(done, 7, "target_unknown_table")
        assert f"{DB}.orders" in done.stderr

    def test_undo_is_written_and_not_applied(self, story: Story) -> None:
        accident = story.rows()
        script = story.rowback.folder / "undo.sql"
        done = story.rowback.run("undo", "--table", f"{DB}.orders", "--limit", "6", "--output", "undo.sql")
        assert done.stdout == ""
        assert "6 changes of 2 transactions" in done.stderr
        assert story.rows() == accident
        assert script.stat().st_mode & 0o777 == 0o600
        again = story.rowback.run(
            "undo", "--table", f"{DB}.orders", "--limit", "1", "--output", "undo.sql", check=False
        )
        assert "exists already" in error_of(again, 2, "config")
        printed = story.rowback.run("undo", "--table", f"{DB}.orders", "--limit", "6").stdout
        assert printed == script.read_text()
        as_json = story.rowback.json("undo", "--table", f"{DB}.orders", "--limit", "6")
        assert as_json["sql"] == printed
        assert as_json["changes"] == 6

    def test_restore_to_just_before_the_accident(self, story: Story, mysql_target: MySQLServer) -> None:
        accident = story.rowback.json("changes", "--table", f"{DB}.orders", "--op", "update", "--limit", "1")[
            "changes"
        ][0]
        arguments = ("restore", "--before", accident["gtid"], "--tables", f"{DB}.orders")
        plan = story.rowback.run(*arguments, "--dry-run").stdout
        assert f"table {DB}.orders: 5 rows of snapshot" in plan
        folder = story.rowback.folder / "out"
        assert not folder.exists()
        result = story.rowback.json(*arguments, "--output", "out")
        assert result["rows"] == 5
        load = (folder / "load.mysql").read_text()
        subprocess.run(
            mysql_target.client_command("--loose-commands", "--comments"), input=load.encode(), cwd=folder, check=True
        )
        assert mysql_target.execute(f"SELECT * FROM {DB}.orders ORDER BY id") == story.before
        mysql_target.execute(f"DROP DATABASE {DB}")
        done = story.rowback.run(*arguments, "--output", "out", check=False)
        error_of(done, 2, "config")

    @pytest.mark.parametrize(
        "target",
        ["2001-01-01 00:00:00", "2999-01-01", "binlog.999999:4", "11111111-1111-1111-1111-111111111111:7"],
    )
    def test_targets_outside_coverage(self, story: Story, target: str) -> None:
        done = story.rowback.run("restore", "--to", target, "--dry-run", check=False)
        error_of(done, 7, "target_outside_coverage")

    def test_nonsense_as_a_target(self, story: Story) -> None:
        error_of(story.rowback.run("restore", "--to", "yesterday", "--dry-run", check=False), 2, "config")

    def test_the_password_is_nowhere(self, story: Story) -> None:
        """Neither in argv, where `ps` shows it, nor in what is written."""
        environment = {**story.rowback.environment, "ROWBACK_TEST_PASSWORD": "n0t-for-eyes"}
        story.server.execute("CREATE USER IF NOT EXISTS eyes@'127.0.0.1' IDENTIFIED BY 'n0t-for-eyes'")
        story.server.execute("GRANT ALL ON *.* TO eyes@'127.0.0.1'")
        environment["ROWBACK_SERVERS__SHOP__USER"] = "eyes"
        log = story.rowback.folder / "eyes.log"
        with log.open("wb") as file:
            process = subprocess.Popen([*COMMAND, "capture"], env=environment, stdout=file, stderr=file)
        try:
            deadline = time.monotonic() + 60
            while b"dataflow.run" not in (argv := Path(f"/proc/{process.pid}/cmdline").read_bytes()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert b"n0t-for-eyes" not in argv
            while "capture started" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
        assert "n0t-for-eyes" not in log.read_text()
        for path in story.rowback.folder.rglob("*"):
            assert not path.is_file() or b"n0t-for-eyes" not in path.read_bytes(), path


# --- bad servers ------------------------------------------------------------------------------------------------------


def test_a_wrong_password(mysql_source: MySQLServer, tmp_path: Path) -> None:
    rowback = Rowback(tmp_path, mysql_source)
    rowback.environment["ROWBACK_TEST_PASSWORD"] = "wr0ng"
    for command in (["snapshot"], ["capture", "--until-caught-up"]):
        done = rowback.run(*command, check=False)
        error_of(done, 3, "source_access_denied")
        assert "wr0ng" not in done.stderr + done.stdout


def test_a_misconfigured_server(fresh_mysql: Callable[..., Server], tmp_path: Path) -> None:
    server = fresh_mysql(options={"binlog_row_image": "MINIMAL"})
    done = Rowback(tmp_path, server).run("capture", "--until-caught-up", check=False)
    assert "binlog_row_image" in error_of(done, 3, "source_misconfigured")
    assert "SET " in done.stderr
