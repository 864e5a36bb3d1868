"""What a command line imports before it is known to need it: nothing that takes long. No test here looks at a clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rowback import COMMAND, ROOT

from recovery import cli, cli_commands
from recovery.cli_archive import ExceptConflicts
from recovery.except_report import POLICIES

HEAVY = {"duckdb", "pyarrow", "numpy", "numba", "sqlglot", "boto3", "botocore", "pymysql", "bytewax", "prefect"}
NAMES = [name for family in cli_commands.FAMILIES for name in family.summaries]


def imported(*arguments: str, cwd: Path, status: int = 0) -> set[str]:
    """The top-level packages that one command line imports, each process of it. cwd: where it looks for rowback.toml."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ROWBACK_")}
    done = subprocess.run(
        [COMMAND[0], "-X", "importtime", *COMMAND[1:], *arguments],
        env={**clean, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(cwd), "XDG_CONFIG_DIRS": str(cwd)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stderr
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "recovery.cli" in names
    return {name.partition(".")[0] for name in names} | {name for name in names if name.startswith("recovery.cli_")}


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A folder with a rowback.toml whose server nobody listens for."""
    text = f'[archive]\nroot = "file://{tmp_path}/archive"\n[servers.shop]\nport = 1\n'
    (tmp_path / "rowback.toml").write_text(text)
    return tmp_path


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("-h",)])
def test_what_is_said_of_rowback_itself_imports_no_command(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    found = imported(*arguments, cwd=tmp_path)
    assert not found & {*HEAVY, "pydantic", "rich"}
    assert {name for name in found if name.startswith("recovery.cli_")} == {
        "recovery.cli_commands",
        "recovery.cli_globals",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_commands_help_imports_nothing_heavy(tmp_path: Path, name: str) -> None:
    assert not imported(name, "--help", cwd=tmp_path) & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("capture",),
        ("snapshot",),
        ("sweep",),
        ("changes", "--table", "a.b"),
        ("restore", "--to", "latest", "--dry-run"),
        ("roll-forward",),
    ],
)
def test_an_error_in_the_settings_imports_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert not imported(*arguments, cwd=tmp_path, status=2) & HEAVY
    (tmp_path / "rowback.toml").write_text('[archive]\nroot = "nowhere"\n')
    assert not imported(*arguments, cwd=tmp_path, status=2) & HEAVY


@pytest.mark.parametrize(
    "arguments", [("stats",), ("status", "--formt", "json"), ("restore", "--output", "x"), ("undo", "--limit", "x")]
)
def test_wrong_arguments_import_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert not imported(*arguments, cwd=tmp_path, status=2) & HEAVY


def test_capture_imports_nothing_for_a_process_that_it_leaves(configured: Path) -> None:
    """Its arguments are the last that is checked before the dataflow takes the process over."""
    arguments = ("capture", "--server", "shop", "--process-id", "3", "--addresses", "127.0.0.1:1")
    assert not imported(*arguments, cwd=configured, status=2) & HEAVY


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("status",), 0),
        (("doctor",), 1),
        (("snapshot",), 3),
        (("sweep", "--dry-run"), 5),
        (("compact",), 5),
        (("index", "show"), 5),
        (("verify", "--archive"), 5),
    ],
)
def test_only_what_computes_rows_needs_an_sql_engine(configured: Path, arguments: tuple[str, ...], status: int) -> None:
    unneeded = HEAVY - {"pyarrow", "numpy", "pymysql"}
    assert not imported(*arguments, cwd=configured, status=status) & unneeded


def test_operations_brings_nothing_with_it() -> None:
    """Flows and other programs import it, too."""
    code = "import sys, recovery.operations; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {name.partition(".")[0] for name in done.stdout.split()} & HEAVY


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [45, 1_000])
def test_the_list_says_of_a_command_what_its_help_says(name: str, width: int) -> None:
    group = typer.main.get_group(cli.app)
    assert group.commands[name].get_short_help_str(width) == cli_commands.command(name).get_short_help_str(width)


def test_every_command_of_a_module_is_in_the_list() -> None:
    for family in cli_commands.FAMILIES:
        part = typer.Typer()
        family.load().register(part)
        assert set(typer.main.get_group(part).commands) == set(family.summaries)


def test_the_conflict_policies_are_all_there_are() -> None:
    assert [policy.value for policy in ExceptConflicts] == list(POLICIES)
