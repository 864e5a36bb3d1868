"""Which column counts, by the statements that create a table. That it goes on counting is in test_objects_restore.py."""

from __future__ import annotations

import pytest

from recovery.autoincrement import auto_increment_column

CREATE = """CREATE TABLE `t` (
  `n` decimal(5,2) DEFAULT '1,0' COMMENT 'AUTO_INCREMENT',
  `the id` int NOT NULL AUTO_INCREMENT,
  PRIMARY KEY (`the id`)
) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4"""


@pytest.mark.parametrize(
    ("schema", "column"),
    [
        ([CREATE], "the id"),
        (["CREATE TABLE t (a int, b int) AUTO_INCREMENT 5"], None),
        (["CREATE TABLE t (a int PRIMARY KEY AUTO_INCREMENT)"], "a"),
        (["CREATE TABLE t (a int, s SERIAL)"], "s"),
        ([CREATE, "ALTER TABLE t RENAME COLUMN `the id` TO b"], "b"),
        ([CREATE, "ALTER TABLE t RENAME COLUMN IF EXISTS `The ID` TO b"], "b"),
        ([CREATE, "ALTER TABLE t RENAME COLUMN `the id` TO n, RENAME COLUMN n TO `the id`"], "n"),
        ([CREATE, "ALTER TABLE t CHANGE `the id` c bigint AUTO_INCREMENT, ADD d int"], "c"),
        ([CREATE, "ALTER TABLE t AUTO_INCREMENT = 100"], "the id"),
        (["CREATE TABLE t (a int, b int)", "ALTER TABLE t ADD COLUMN (k int AUTO_INCREMENT UNIQUE)"], "k"),
        (
            [
                "CREATE TABLE t (a int, b int)",
                "ALTER TABLE t MODIFY b int NOT NULL AUTO_INCREMENT, ADD PRIMARY KEY (b)",
            ],
            "b",
        ),
    ],
)
def test_the_column(schema: list[str], column: str | None) -> None:
    assert auto_increment_column(schema) == column
