"""Foreign keys that a table had for a while: found by name, and made again on real servers without their parents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from oracle import load_with_client
from rowback import Rowback

from recovery.dropped_keys import adds_unnamed_key, dropped, live
from recovery.references import rewritten
from testservers import Server

NONE: frozenset[int] = frozenset()


def of(*statements: str) -> list[frozenset[int]]:
    return dropped([(statement, "d") for statement in statements])


def test_keys_are_found_by_the_names_that_they_have() -> None:
    two = "CREATE TABLE c (f int, CONSTRAINT A FOREIGN KEY (f) REFERENCES p (id), FOREIGN KEY (g) REFERENCES q (id))"
    assert of(two) == [NONE]
    assert of(two, "ALTER TABLE c DROP FOREIGN KEY `a`") == [{0}, NONE]
    assert of(two, "ALTER TABLE c DROP FOREIGN KEY c_ibfk_1, DROP KEY k") == [{1}, NONE]
    assert of(two, "ALTER TABLE d.c DROP CONSTRAINT c_ibfk_1, DROP FOREIGN KEY A") == [{0, 1}, NONE]
    assert of(two, "ALTER TABLE c DROP CONSTRAINT some_check") == [NONE, NONE]


def test_generated_names_follow_the_table_and_count_on() -> None:
    add = "ALTER TABLE {0} ADD FOREIGN KEY (f) REFERENCES p (id)"
    create = "CREATE TABLE c (f int)"
    assert of(create, add.format("c"), add.format("n"), "ALTER TABLE m DROP FOREIGN KEY m_ibfk_2") == [
        NONE, NONE, {0}, NONE,
    ]  # fmt: skip
    again = [create, add.format("c"), "ALTER TABLE c DROP FOREIGN KEY c_ibfk_1", add.format("c")]
    assert of(*again) == [NONE, {0}, NONE, NONE]
    assert of(*again, "ALTER TABLE c DROP FOREIGN KEY c_ibfk_1") == [NONE, {0}, NONE, {0}, NONE]


def test_the_keys_that_are_there() -> None:
    create = ("CREATE TABLE c (f int, CONSTRAINT c_ibfk_4 FOREIGN KEY (f) REFERENCES p (id), KEY (f))", "d")
    add = ("ALTER TABLE renamed ADD FOREIGN KEY (f) REFERENCES p (id)", "d")
    assert live([create]) == ["c_ibfk_4"]
    assert live([create, add]) == ["renamed_ibfk_4", "renamed_ibfk_5"]
    assert live([create, add, ("ALTER TABLE x DROP FOREIGN KEY x_ibfk_4, DROP KEY f", "d")]) == ["x_ibfk_5"]
    assert live([create, ("ALTER TABLE c DROP FOREIGN KEY unknown", "d")]) is None
    assert live([create, ("ALTER TABLE c ADD CONSTRAINT n FOREIGN KEY (f) REFERENCES p (id)", "d")]) is None


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE c (f int REFERENCES p (id))", "ALTER TABLE c DROP FOREIGN KEY c_ibfk_1"),
        ("CREATE TABLE c (f int, FOREIGN KEY (f) REFERENCES p (id))", "ALTER TABLE c DROP FOREIGN KEY other"),
        (
            "CREATE TABLE c (f int, FOREIGN KEY (f) REFERENCES p (id))",
            "ALTER TABLE c DROP FOREIGN KEY c_ibfk_1, ADD FOREIGN KEY (g) REFERENCES p (id)",
        ),
    ],
)
def test_where_names_are_not_certain_no_key_is_left_out(statements: tuple[str, ...]) -> None:
    assert of(*statements) == [NONE, NONE]


def test_keys_without_a_name() -> None:
    assert adds_unnamed_key("ALTER TABLE c ADD FOREIGN KEY (f) REFERENCES p (id)")
    assert adds_unnamed_key("ALTER TABLE c ADD CONSTRAINT FOREIGN KEY (f) REFERENCES p (id)")
    assert not adds_unnamed_key("ALTER TABLE c ADD CONSTRAINT k FOREIGN KEY (f) REFERENCES p (id)")
    assert not adds_unnamed_key("CREATE TABLE c (f int, FOREIGN KEY (f) REFERENCES p (id))")


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.sockets
def test_a_server_makes_the_same_table_when_the_parents_are_others(
    flavor: str, request: pytest.FixtureRequest, unique_name: Callable[[str], str]
) -> None:
    """The statements as a session ran them, then as a restore does: the dropped keys' parent has no such column any more."""
    server: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("gone")
    server.execute(f"CREATE DATABASE {db}")
    server.execute(f"CREATE TABLE {db}.stays (id int PRIMARY KEY)")
    server.execute(f"CREATE TABLE {db}.p (id int PRIMARY KEY)")
    statements = [
        f"CREATE TABLE `{db}`.c (id int PRIMARY KEY, a int, b int, d int, e int)",
        f"ALTER TABLE `{db}`.c ADD FOREIGN KEY (a) REFERENCES `{db}`.p (id)",
        f"ALTER TABLE `{db}`.c ADD FOREIGN KEY (b) REFERENCES `{db}`.stays (id) ON DELETE RESTRICT",
        f"ALTER TABLE `{db}`.c ADD CONSTRAINT named FOREIGN KEY (d) REFERENCES `{db}`.p (id), ADD f int",
        f"ALTER TABLE `{db}`.c DROP FOREIGN KEY c_ibfk_1, DROP FOREIGN KEY named",
        f"ALTER TABLE `{db}`.c ADD FOREIGN KEY (e) REFERENCES `{db}`.c (id)",
    ]
    for statement in statements:
        server.execute(statement)
    (_, before), *_ = server.execute(f"SHOW CREATE TABLE {db}.c")
    assert before.count("REFERENCES") == 2
    assert before.count("KEY `") >= 4, "dropped keys leave their indexes"
    for statement in (f"DROP TABLE {db}.c", f"DROP TABLE {db}.p", f"CREATE TABLE {db}.p (other text)"):
        server.execute(statement)
    gone = dropped([(statement, db) for statement in statements])
    assert gone == [NONE, {0}, NONE, {0}, NONE, NONE]
    with server.connect(init_command="SET foreign_key_checks = 0") as connection, connection.cursor() as cursor:
        for statement, left_out in zip(statements, gone, strict=True):
            cursor.execute(rewritten(statement, db, (db, "c"), flavor, lambda parent: parent, left_out))
    (_, after), *_ = server.execute(f"SHOW CREATE TABLE {db}.c")
    # MariaDB prints RESTRICT as nothing, and now and then as NO ACTION: the same to InnoDB.
    assert after.replace(" ON DELETE NO ACTION", "") == before.replace(" ON DELETE NO ACTION", "")


@pytest.mark.slow
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_copies_of_tables_that_got_their_keys_by_statements(
    flavor: str, request: pytest.FixtureRequest, tmp_path: Path, unique_name: Callable[[str], str]
) -> None:
    """Copies made LIKE them, and copies of those, have the indexes and none of the keys."""
    source: Server = request.getfixturevalue(f"{flavor}_source")
    target: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("copies")
    rowback = Rowback(tmp_path / "rowback", source, extra=f'include = ["{db}.*"]')
    source.execute(f"CREATE DATABASE {db}")
    with source.connect(database=db, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in (
            "CREATE TABLE p (id int PRIMARY KEY)",
            "CREATE TABLE a (id int PRIMARY KEY, f int, FOREIGN KEY (f) REFERENCES p (id))",
            "INSERT INTO p VALUES (1)",
            "INSERT INTO a VALUES (1, 1)",
        ):
            cursor.execute(statement)
        rowback.catch_up()
        rowback.run("snapshot", "--databases", db)
        for statement in (
            "ALTER TABLE a ADD g int, ADD FOREIGN KEY (g) REFERENCES p (id)",
            "CREATE TABLE b LIKE a",
            "INSERT INTO b VALUES (5, 5, 5)",
            "RENAME TABLE b TO bb",
            "ALTER TABLE bb ADD h int, ADD FOREIGN KEY (h) REFERENCES bb (id)",
            "CREATE TABLE e LIKE bb",
            "INSERT INTO e VALUES (7, 7, 7, 7)",
            "ALTER TABLE a DROP FOREIGN KEY a_ibfk_2",
            "RENAME TABLE p TO q",
            "ALTER TABLE q CHANGE id other int",
            "ALTER TABLE e ADD i int, ADD FOREIGN KEY (i) REFERENCES q (other)",
        ):
            cursor.execute(statement)
    rowback.catch_up()
    rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "out"))
    load_with_client(target, tmp_path / "out")
    for name in ("a", "bb", "e", "q"):
        for look in (f"SHOW CREATE TABLE {db}.{name}", f"SELECT * FROM {db}.{name}"):
            assert target.execute(look) == source.execute(look)
