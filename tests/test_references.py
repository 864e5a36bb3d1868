"""Foreign keys of restored tables: they follow their parents, on real servers too."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from handmade import T0

from recovery.archive.actions import Ddl
from recovery.program import in_place
from recovery.references import Parent, copied, followed, rewritten
from testservers import Server

ID = ("id",)


def ddl(seq: int, statement: str, *tables: tuple[str, str]) -> Ddl:
    return Ddl(seq, None, "binlog.000001", seq, T0, "d", statement, " ".join(statement.split()[:2]), tables)


def test_a_parent_is_followed_through_names_and_columns() -> None:
    p, q, r = ("d", "p"), ("d", "q"), ("e", "r")
    ddls = [
        ddl(1, "RENAME TABLE p TO zzz", p, ("d", "zzz")),  # before the foreign key
        ddl(3, "ALTER TABLE q RENAME COLUMN id TO other", q),
        ddl(4, "RENAME TABLE p TO x, q TO p, x TO q", p, ("d", "x"), q, p, ("d", "x"), q),
        ddl(5, "ALTER TABLE q CHANGE ID id2 bigint, ADD c int", q),
        ddl(6, "ALTER TABLE q RENAME TO e.r", q, r),
        ddl(9, "RENAME TABLE e.r TO gone", r, ("d", "gone")),  # after the cut
    ]
    assert followed(ddls, 2, 8, Parent(p, ID)) == Parent(r, ("id2",))
    assert followed(ddls, 2, 8, Parent(("d", "c"), ID)) == Parent(("d", "c"), ID)


def test_a_parent_is_followed_through_columns_that_exchange_their_names() -> None:
    t = ("d", "t")
    exchanged = ddl(1, "ALTER TABLE t RENAME COLUMN A TO b, CHANGE b a int, RENAME COLUMN c TO d", t)
    assert followed([exchanged], 0, 1, Parent(t, ("a", "b", "c"))) == Parent(t, ("b", "a", "d"))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "ALTER TABLE c ADD FOREIGN KEY (f) REFERENCES p (id)",
            "ALTER TABLE c ADD FOREIGN KEY (f) REFERENCES `e`.`r` (`id2`)",
        ),
        ("ALTER TABLE e.c ADD f int REFERENCES p", "ALTER TABLE e.c ADD f int REFERENCES `e`.`p`"),
        ("ALTER TABLE c DROP FOREIGN KEY `c_ibfk_1`", "ALTER TABLE c DROP FOREIGN KEY `n_ibfk_1`"),
        (
            "ALTER TABLE c DROP CONSTRAINT c_chk_2, DROP KEY c_ibfk_1",
            "ALTER TABLE c DROP CONSTRAINT `n_chk_2`, DROP KEY c_ibfk_1",
        ),
        (
            "CREATE TABLE c (id int, CONSTRAINT c_ibfk_3 FOREIGN KEY (f) REFERENCES c (id))",
            "CREATE TABLE c (id int, CONSTRAINT `n_ibfk_3` FOREIGN KEY (f) REFERENCES `d`.`n` (`id`))",
        ),
        ("ALTER TABLE c ADD x int COMMENT 'REFERENCES p (id)'", "ALTER TABLE c ADD x int COMMENT 'REFERENCES p (id)'"),
    ],
)  # fmt: skip
def test_statements_name_what_they_mean_at_the_target(statement: str, expected: str) -> None:
    moved = {Parent(("d", "p"), ID): Parent(("e", "r"), ("id2",))}
    assert rewritten(statement, "d", ("d", "n"), "mysql", lambda parent: moved.get(parent, parent)) == expected


def test_a_copy_has_no_foreign_keys_and_names_its_checks_itself() -> None:
    create = (
        "CREATE TABLE `c` (\n  `a` int,\n  KEY `k` (`a`),\n"
        "  CONSTRAINT `c_ibfk_1` FOREIGN KEY (`a`) REFERENCES `p` (`id`),\n"
        "  CONSTRAINT `c_chk_1` CHECK ((`a` > 1))\n) ENGINE=InnoDB COMMENT='(, )'"
    )
    same = "CREATE TABLE `c` (\n  `a` int,\n  KEY `k` (`a`),\n  "
    assert copied(create, "mysql") == f"{same}CHECK ((`a` > 1))\n) ENGINE=InnoDB COMMENT='(, )'"
    assert copied(create, "mariadb") == f"{same}CONSTRAINT `c_chk_1` CHECK ((`a` > 1))\n) ENGINE=InnoDB COMMENT='(, )'"


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.sockets
def test_a_server_takes_child_and_parent_in_any_order(
    flavor: str, request: pytest.FixtureRequest, unique_name: Callable[[str], str]
) -> None:
    """The child waits for a column that the parent has at its last statement only."""
    server: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("keys")
    server.execute(f"CREATE DATABASE {db}")
    child, parent = (db, "child"), (db, "parent")
    schemas = {
        child: [f"CREATE TABLE `{db}`.`child` (a int, f int, FOREIGN KEY (f) REFERENCES `{db}`.`parent` (`id2`))"],
        parent: [
            f"CREATE TABLE `{db}`.parent (id int, up int, FOREIGN KEY (up) REFERENCES `{db}`.`parent` (`id`), UNIQUE (id))",
            f"ALTER TABLE `{db}`.`parent` RENAME COLUMN id TO id2",
        ],
    }
    placed = in_place(schemas, flavor)
    assert placed[child] == tuple(schemas[child])
    definitions = []
    for order in ((child, parent), (parent, child)):
        with server.connect(init_command="SET foreign_key_checks = 0") as connection, connection.cursor() as cursor:
            for name in order:
                for statement in placed[name]:
                    cursor.execute(statement)
        definitions.append([server.execute(f"SHOW CREATE TABLE {db}.{name}")[0][1] for _, name in (child, parent)])
        assert len(server.execute(f"SHOW TABLES FROM {db}")) == 2
        server.execute(f"DROP TABLE {db}.child, {db}.parent")
    assert definitions[0] == definitions[1]
    assert re.search(
        r"CONSTRAINT `parent_ibfk_1` FOREIGN KEY \(`up`\) REFERENCES `parent` \(`id2`\)", definitions[0][1]
    )
