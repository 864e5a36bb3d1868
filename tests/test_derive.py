"""Deriving what foreign keys did: what is refused, on small histories made by hand. Real servers stand in
test_derived_cascades.py."""

from __future__ import annotations

import re
import string
import unicodedata
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from handmade import T0, Archive, column, delete, insert, table, update
from test_restore_synthetic import rows_in

from recovery.alike import loose
from recovery.archive.actions import Cascade
from recovery.archive.compactor import Compactor
from recovery.errors import NotComputable
from recovery.foreignkeys import foreign_keys, is_unique
from recovery.restore import RestoreRequest, restore
from testservers import Server

PAR = table("shop", "par", column("id"), column("code", "varchar", octets=80))
CHILD = table("shop", "ch", column("id"), column("code", "varchar", octets=80))
KEYLESS = table("shop", "ch", column("id"), column("code", "varchar", octets=80), key=())
DELETES = Cascade("shop", "ch", "shop", "par", "CASCADE", "CASCADE")


def par(unique: bool = True) -> str:
    return (
        f"CREATE TABLE `par` (\n  `id` int,\n  `code` varchar(20),\n  {'UNIQUE ' if unique else ''}KEY `c` (`code`)\n)"
    )


def child(collation: str = "utf8mb4_general_ci", options: str = "") -> str:
    return (
        f"CREATE TABLE `ch` (\n  `id` int,\n  `code` varchar(20) COLLATE {collation} DEFAULT NULL,\n"
        f"  CONSTRAINT `f` FOREIGN KEY (`code`) REFERENCES `par` (`code`) ON DELETE CASCADE ON UPDATE CASCADE\n"
        f") ENGINE=InnoDB{options}"
    )


def begun(
    folder: Path, parents: list[str], children: list[str], create: str = "", flags: int | None = 1, unique: bool = True,
    of: Any = CHILD,
) -> Archive:  # fmt: skip
    archive = Archive(folder)
    archive.flags = flags
    rows = [({"id": n, "code": code}, {}) for n, code in enumerate(children, 1)]
    archive.snapshot(
        "a", archive.mark(0), archive.mark(0),
        archive.baseline("a", PAR, [({"id": n, "code": code}, {}) for n, code in enumerate(parents, 1)], par(unique)),
        archive.baseline("a", of, rows, create or child()), cascades=(DELETES,),
    )  # fmt: skip
    return archive


def restored(archive: Archive, folder: Path) -> list[str]:
    """A dry run refuses what the restore refuses, in the same words."""
    request = RestoreRequest("latest", ("shop.ch",), folder / "out")
    try:
        restore(archive.store, archive.state, replace(request, dry_run=True))
    except NotComputable as planned:
        with pytest.raises(NotComputable, match=re.escape(planned.message)):
            restore(archive.store, archive.state, request)
        raise
    restore(archive.store, archive.state, request)
    return rows_in(folder / "out", "shop.ch")


@pytest.mark.parametrize(
    ("flags", "left"), [(1, ["(2,'b')"]), (3, ["(1,'a')", "(2,'b')"]), (17, ["(1,'a')", "(2,'b')"])]
)
def test_the_flags_of_each_event_decide(tmp_path: Path, flags: int, left: list[str]) -> None:
    archive = begun(tmp_path, ["a", "b"], ["a", "b"], flags=flags)
    archive.window(delete(PAR, id=1, code="a"))
    assert restored(archive, tmp_path) == left


def test_events_without_flags_are_refused_as_before(tmp_path: Path) -> None:
    archive = begun(tmp_path, ["a"], ["a"], flags=None)
    archive.window(update(PAR, {"id": 1, "code": "a"}, {"id": 7, "code": "a"}))
    assert restored(archive, tmp_path) == ["(1,'a')"], "no key that is referred to has changed"
    archive.window(delete(PAR, id=7, code="a"))
    with pytest.raises(
        NotComputable, match=r"`shop\.ch`.*`shop\.par` was changed at binlog\.000001:2100.*no event flags"
    ):
        restored(archive, tmp_path / "again")


@pytest.mark.parametrize(
    ("create", "of", "why"),
    [
        ("CREATE TABLE `ch` (\n  `id` int\n)", CHILD, "lacks its foreign key to `shop.par`"),
        (child(options=" WITH SYSTEM VERSIONING"), CHILD, "`shop.ch` keeps its history"),
        (child(), KEYLESS, "`shop.ch` has no key"),
        (child().replace("ON UPDATE CASCADE", "ON UPDATE SET DEFAULT"), CHILD, "says SET DEFAULT"),
    ],
)
def test_what_stands_in_the_way_is_said(tmp_path: Path, create: str, of: Any, why: str) -> None:
    archive = begun(tmp_path, ["a"], ["a"], create, of=of)
    archive.window(delete(PAR, id=1, code="a"))
    with pytest.raises(NotComputable) as caught:
        restored(archive, tmp_path)
    assert "can't be derived: " in caught.value.message
    assert why in caught.value.message
    assert "--exclude 'shop.ch'" in caught.value.hint


AMBIGUOUS = "compares texts with different bytes"


@pytest.mark.parametrize(
    ("parent", "of_child", "collation", "left"),
    [
        ("Alpha", "alpha", "utf8mb4_general_ci", None),
        ("alpha", "alpha ", "utf8mb4_bin", None),
        ("alpha", "Alpha", "utf8mb4_bin", ["(1,'Alpha')", "(2,'b')"]),
        ("alpha", "beta", "utf8mb4_general_ci", ["(1,'beta')", "(2,'b')"]),
        ("straße", "STRASSE", "utf8mb4_unicode_ci", None),
        ("über", "ybER", "latin1_swedish_ci", None),
        ("über", "über", "latin1_swedish_ci", ["(2,'b')"]),
        ("ひと", "ヒト", "utf8mb4_0900_ai_ci", None),
    ],
)
def test_texts_that_a_collation_may_take_for_equal(
    tmp_path: Path, parent: str, of_child: str, collation: str, left: list[str] | None
) -> None:
    """Unless they are another parent's, byte for byte."""
    for others, folder in (([], "a"), ([of_child] if of_child != parent else [], "b")):
        archive = begun(tmp_path / folder, [parent, "b", *others], [of_child, "b"], child(collation))
        archive.window(delete(PAR, id=1, code=parent))
        if left is None and not others:
            with pytest.raises(NotComputable, match=AMBIGUOUS):
                restored(archive, tmp_path / folder)
        else:
            assert len(restored(archive, tmp_path / folder)) == len(left or ["both", "stay"])


def test_another_parent_s_key_proves_nothing_where_keys_may_repeat(tmp_path: Path) -> None:
    archive = begun(tmp_path, ["A", "a"], ["a"], unique=False)
    archive.window(delete(PAR, id=1, code="A"))
    with pytest.raises(NotComputable, match=AMBIGUOUS):
        restored(archive, tmp_path)


@pytest.mark.parametrize(
    "later",
    [
        insert(CHILD, id=2, code="a"),
        delete(CHILD, id=1, code="a"),
        update(CHILD, {"id": 2, "code": "a"}, {"id": 2, "code": "c"}),
    ],
)
def test_a_later_change_that_contradicts_what_was_derived_is_refused(tmp_path: Path, later: list[Any]) -> None:
    archive = begun(tmp_path, ["a", "b", "c"], ["a", "b"])
    archive.window(delete(PAR, id=1, code="a"), update(PAR, {"id": 2, "code": "b"}, {"id": 2, "code": "bb"}), later)
    with pytest.raises(NotComputable, match="transaction 3 contradicts it"):
        restored(archive, tmp_path)


def test_the_same_from_compacted_segments(tmp_path: Path) -> None:
    """They are sorted by key, and the images of an update that changed it stand apart."""
    archive = begun(tmp_path, ["a", "b", "c"], ["a", "b", "c"])
    archive.window(update(CHILD, {"id": 1, "code": "a"}, {"id": 9, "code": "a"}), insert(CHILD, id=4, code="a"))
    archive.window(delete(PAR, id=1, code="a"), insert(PAR, id=5, code="a"), insert(CHILD, id=9, code="a"))
    archive.window(update(PAR, {"id": 2, "code": "b"}, {"id": 2, "code": "z"}), delete(CHILD, id=3, code="c"))
    found = restored(archive, tmp_path)
    assert found == ["(2,'z')", "(9,'a')"]
    over = replace(archive.checkpoint(), covered_to_us=T0 + 2 * 3_600_000_000)
    state = archive.commit(over)
    done = Compactor(archive.store, archive.layout, archive.log).run(state)
    assert done.replaced > done.objects > 0
    archive.state = archive.log.read(state)
    assert restored(archive, tmp_path / "again") == found


def test_foreign_keys_are_read_from_the_server_s_own_text() -> None:
    text = (
        "CREATE TABLE `c``h` (\n"
        "  `a` int COMMENT 'CONSTRAINT `x` FOREIGN KEY (`a`) REFERENCES `t` (`a`) ON DELETE CASCADE',\n"
        "  `b` varchar(9) CHARACTER SET latin1,\n  `t` text COLLATE utf8mb4_bin,\n  UNIQUE KEY `u` (`b`,`a`),\n"
        "  UNIQUE KEY `p` (`t`(9)),\n  CONSTRAINT `1` FOREIGN KEY (`a`, `b``,`) REFERENCES `d.b`.`p``ar` (`x`, `y)`)"
        " ON DELETE SET NULL ON UPDATE NO ACTION,\n  CONSTRAINT `2` FOREIGN KEY (`a`) REFERENCES `q` (`x`)\n"
        ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_swedish_ci"
    )
    (found,) = foreign_keys(("shop", "c`h"), text)
    assert (found.columns, found.parent, found.referenced) == (("a", "b`,"), ("d.b", "p`ar"), ("x", "y)"))
    assert (found.on_delete, found.on_update) == ("SET NULL", "")
    assert is_unique(("A", "b"), text)
    assert not is_unique(("t",), text), "a key over a prefix"


def test_texts_of_one_collation_class_have_one_loose_form() -> None:
    assert loose("WeiSS ", "utf8mb4_general_ci") == loose("weiß", "utf8mb4_general_ci")
    assert loose("é", None) is None
    assert loose("a", "utf8mb4_bin") != loose("A", "utf8mb4_bin")


# --- against the servers' collations ----------------------------------------------------------------------------------

SPANS = (
    (0xA1, 0x180),
    (0x386, 0x3CF),
    (0x400, 0x460),
    (0x490, 0x492),
    (0x3041, 0x3097),
    (0x30A1, 0x30F7),
    (0x4E00, 0x4E30),
)
LETTERS = [chr(c) for span in (*SPANS, (0x1F600, 0x1F608)) for c in range(*span)]
ASCII = [chr(c) for c in range(0x20, 0x7F)] + [a + b for a in string.ascii_lowercase for b in string.ascii_lowercase]
WIDE = ("utf8mb3", "ucs2", "utf16", "utf16le", "utf32", "binary")  # their collations are utf8mb4's


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_what_a_server_takes_for_equal_has_one_loose_form(request: pytest.FixtureRequest, flavor: str) -> None:
    """Every collation over ASCII, those of general use over all letters: texts of equal weights."""
    server: Server = request.getfixturevalue(f"{flavor}_target")
    listed = {
        "mysql": "SELECT COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATIONS",
        "mariadb": "SELECT FULL_COLLATION_NAME, CHARACTER_SET_NAME FROM "
        "information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE FULL_COLLATION_NAME NOT LIKE '%nopad%'",
    }
    texts = [*ASCII, *(c for c in LETTERS if unicodedata.category(c)[0] != "C")]
    with closing(server.connect(autocommit=True, charset="utf8mb4")) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE letters")
        cursor.execute("CREATE TABLE letters.l (n INT PRIMARY KEY, c VARCHAR(4)) CHARACTER SET utf8mb4")
        cursor.executemany("INSERT INTO letters.l VALUES (%s, %s)", list(enumerate(texts)))
        cursor.execute(listed[flavor])
        collations = {str(name): str(charset) for name, charset in cursor.fetchall() if charset not in WIDE}
        wrong = []
        for collation, charset in sorted(collations.items()):
            plain = re.fullmatch(r"utf8mb4_(general|unicode|unicode_520|(0900|uca1400)_a[is])_c[is]", collation)
            weight = f"HEX(WEIGHT_STRING(CONVERT(CONCAT('<', c, '>') USING {charset}) COLLATE {collation}))"
            cursor.execute(f"SELECT n, {weight} FROM letters.l WHERE n < {len(texts if plain else ASCII)}")
            groups: dict[str, set[str]] = {}
            for n, weights in cursor.fetchall():
                groups.setdefault(weights, set()).add(texts[n])
            for group in groups.values():
                forms = {loose(f"<{text}>", collation) for text in group}
                if len(forms) > 1 and None not in forms:
                    wrong.append((collation, sorted(group)[:8]))
        cursor.execute("DROP DATABASE letters")
    assert wrong == []
    assert len(collations) > 100
