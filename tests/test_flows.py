"""The flows: the same operations as the command line, as Prefect runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before anything imports Prefect: no telemetry, and quiet.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Failed
from prefect.testing.utilities import prefect_test_harness
from pydantic import ValidationError
from rowback import Rowback

from flows import replay, retries, roll_forward, snapshots
from flows.replay import RestoreParameters, UndoParameters
from flows.roll_forward import RollForwardParameters
from flows.snapshots import SnapshotParameters
from recovery.errors import AccessDenied, RowbackError, SourceUnreachable, StoreUnavailable, UnknownTable
from testservers import MySQLServer

DB = "flow_shop"


# --- without a server -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (SourceUnreachable("x", hint="y"), True),
        (StoreUnavailable("x", hint="y"), True),
        (AccessDenied("x", hint="y"), False),
        (ValueError("x"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, again: bool) -> None:
    assert retries.is_retryable(None, None, Failed(data=error)) is again


def test_every_task_retries_by_that_rule() -> None:
    for task in (snapshots.snapshot, roll_forward.roll_forward, replay.write_restore, replay.build_undo):
        assert task.retry_condition_fn is retries.is_retryable
        assert task.retries == len(retries.DELAYS_S)


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"lock": "long"}, {"thread": 4}])
def test_parameters_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SnapshotParameters(**wrong)


def test_an_artifact_holds_the_whole_script_or_none() -> None:
    result = {"table": "a.b", "changes": 2, "conflicts": 1, "warnings": ["Careful."], "sql": "SELECT '```';\n"}
    text = replay.markdown(result)
    assert "````sql\nSELECT '```';\n\n````" in text
    assert "- Careful." in text
    assert "1 of these rows changed again later" in text
    long = replay.markdown({**result, "sql": "x" * (replay.ARTIFACT_MAX_CHARACTERS + 1)})
    assert "xxx" not in long
    assert "rowback undo --output FILE" in long


# --- on a real server -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rowback(mysql_source: MySQLServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rowback]:
    """A captured table with three rows; the password's variable is set for this process too."""
    mysql_source.execute(f"DROP DATABASE IF EXISTS {DB}")
    mysql_source.execute(f"CREATE DATABASE {DB}")
    mysql_source.execute(f"CREATE TABLE {DB}.t (id INT PRIMARY KEY)")
    made = Rowback(tmp_path_factory.mktemp("flows"), mysql_source, extra=f'include = ["{DB}.*"]')
    made.run("capture", "--until-caught-up")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROWBACK_TEST_PASSWORD", mysql_source.password)
        yield made
    mysql_source.execute(f"DROP DATABASE {DB}")


@pytest.mark.usefixtures("mydumper", "mysql_source")
def test_the_tasks_do_what_the_commands_do(rowback: Rowback, mysql_source: MySQLServer, tmp_path: Path) -> None:
    config = str(rowback.config)
    taken = snapshots.snapshot.fn(SnapshotParameters(config=config, threads=2))
    assert (taken["tables"], taken["rows"]) == (1, 0)
    mysql_source.execute(f"INSERT INTO {DB}.t VALUES (1), (2), (3)")
    rowback.run("capture", "--until-caught-up")
    restored = replay.write_restore.fn(
        RestoreParameters(
            config=config, to="latest", output=str(tmp_path / "out"), memory="512MiB", scratch=str(tmp_path)
        )
    )
    assert restored["rows"] == 3
    assert (tmp_path / "out" / f"{DB}.t-schema.sql").exists()
    insert = rowback.json("changes", "--table", f"{DB}.t")["changes"][0]["gtid"]
    options = {"databases": [DB], "rename": [f"{DB}.t={DB}.u"], "leave_out": [insert], "output": str(tmp_path / "less")}
    less = replay.write_restore.fn(RestoreParameters(config=config, to="latest", **options))
    assert (less["rows"], [t["table"] for t in less["plan"]["tables"]]) == (0, ["u"])
    assert less["plan"]["except"]["transactions"][0]["gtid"] == insert
    undone = replay.build_undo.fn(UndoParameters(config=config, table=f"{DB}.t", ops=["insert"]))
    assert undone["changes"] == 3
    assert undone["sql"] == rowback.run("undo", "--table", f"{DB}.t", "--op", "insert").stdout
    with pytest.raises(UnknownTable):
        replay.build_undo.fn(UndoParameters(config=config, table=f"{DB}.nope"))


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper", "mysql_source")
def test_real_runs_with_their_artifact(rowback: Rowback, monkeypatch: pytest.MonkeyPatch) -> None:
    """One harness for all runs: it costs 20 to 50 seconds to start."""
    monkeypatch.setenv("PREFECT_HOME", str(rowback.folder / "prefect"))
    config = str(rowback.config)
    with prefect_test_harness(server_startup_timeout=180):
        taken = snapshots.take_snapshot(SnapshotParameters(config=config))
        listed = [line["snapshot_id"] for line in rowback.json("status", "--offline")["snapshots"]]
        assert taken["snapshot_id"] in listed

        made = roll_forward.roll_baseline_forward(
            RollForwardParameters(config=config, databases=[DB], memory="512MiB", scratch=str(rowback.folder))
        )
        listed = {line["snapshot_id"]: line["mode"] for line in rowback.json("status", "--offline")["snapshots"]}
        assert listed[made["snapshot_id"]] == "synthetic"
        assert made["tables"] == 1

        result = replay.undo(UndoParameters(config=config, table=f"{DB}.t", limit=10))
        (artifact,) = [a for a in _artifacts() if a["key"] == "undo-sql"]
        assert artifact["data"] == replay.markdown(result)

        with pytest.raises(RowbackError, match="is not in the archive"):
            replay.undo(UndoParameters(config=config, table=f"{DB}.nope"))


def _artifacts() -> list[dict[str, Any]]:
    """Asked for plainly: the sync client of Prefect 3.8.8 sends nulls that its server refuses."""
    with get_client(sync_client=True) as client:
        found: list[dict[str, Any]] = client.request("POST", "/artifacts/filter", json={}).json()
        return found
