"""Everything with an inverse: actions and commits as JSON, object names."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.archive.actions import Action, Baseline, DataObject, Mark, action_from_json, action_to_json
from recovery.archive.names import Layout, decode, encode, table_key, valid_label
from recovery.archive.state import Commit
from recovery.archive.store import check_key
from recovery.errors import ArchiveDamaged, UnknownFormat
from recovery.schema import Column, Table

NUMBERS = st.none() | st.integers(0, 2**63 - 1)
COLUMNS = st.builds(
    Column,
    name=st.text(),
    type=st.text(),
    unsigned=st.booleans(),
    octets=NUMBERS,
    precision=NUMBERS,
    scale=NUMBERS,
    fsp=NUMBERS,
    charset=st.none() | st.text(),
    labels=st.lists(st.text(), max_size=3).map(tuple),
    nullable=st.booleans(),
    generated=st.booleans(),
    invisible=st.booleans(),
)
TABLES = st.builds(
    Table,
    db=st.text(),
    name=st.text(),
    columns=st.lists(COLUMNS, max_size=3).map(tuple),
    key=st.lists(st.text(), max_size=2).map(tuple),
)


def of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Any instance, all fields drawn, also those with defaults."""
    hints = get_type_hints(cls)
    return st.builds(cls, **{f.name: SPECIAL.get(hints[f.name], st.from_type(hints[f.name])) for f in fields(cls)})


SPECIAL: dict[Any, st.SearchStrategy[Any]] = {Table: TABLES}
SPECIAL[Mark] = of(Mark)
SPECIAL[tuple[DataObject, ...]] = st.lists(of(DataObject), max_size=2).map(tuple)
SPECIAL[tuple[Baseline, ...]] = st.lists(of(Baseline), max_size=2).map(tuple)
KINDS = get_args(Action)
ACTIONS: st.SearchStrategy[Action] = st.one_of([of(cls) for cls in KINDS])


def test_every_kind_of_action_is_drawn() -> None:
    assert len(KINDS) >= 9
    assert len({cls.kind for cls in KINDS}) == len(KINDS)


@given(ACTIONS)
def test_actions_survive_json(action: Action) -> None:
    text = json.dumps(action_to_json(action))
    assert action_from_json(json.loads(text)) == action
    assert json.loads(text)["action"] == action.kind


@given(TABLES)
def test_tables_survive_json_and_keep_their_id(table: Table) -> None:
    back = Table.from_json(json.loads(json.dumps(table.to_json())))
    assert back == table
    assert back.schema_id == table.schema_id
    assert re.fullmatch("[0-9a-f]{16}", table.schema_id)


@given(
    st.builds(
        Commit,
        version=st.integers(1),
        commit_id=st.text(),
        generation=st.none() | st.integers(0),
        previous_sha256=st.text(),
        created_at_us=st.integers(),
        actions=st.lists(ACTIONS, max_size=3).map(tuple),
        sha256=st.just(""),
    )
)
def test_commits_survive_their_bytes(commit: Commit) -> None:
    body = commit.to_bytes()
    back = Commit.from_bytes(body, "x")
    assert back.to_bytes() == body
    assert (back.version, back.generation, back.actions) == (commit.version, commit.generation, commit.actions)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_no_commit(body: bytes) -> None:
    with pytest.raises((ArchiveDamaged, UnknownFormat), match="name"):
        Commit.from_bytes(body, "name")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["format", "version", "commit_id", "generation", "actions", "x"]), JSON))
def test_any_other_json_is_no_commit(document: dict[str, object]) -> None:
    with pytest.raises((ArchiveDamaged, UnknownFormat)):
        Commit.from_bytes(json.dumps(document).encode(), "name")


# --- names ------------------------------------------------------------------------------------------------------------

MYSQL_NAMES = st.text(
    st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=["Cs"]), min_size=1, max_size=64
)
NASTY = [
    "../../etc",
    "..",
    ".",
    "a/b",
    " lead",
    "A",
    "a",
    "%41",
    "a.b",
    "ü",
    "日本",
    "x%2Fy",
    "\\",
    "-",
    "_",
    "~",
    "\x01",
]


@given(st.text())
def test_encoded_names_are_plain_and_have_an_inverse(name: str) -> None:
    text = encode(name)
    assert decode(text) == name
    assert re.fullmatch(r"([a-z0-9_-]|%[0-9A-F]{2})*", text)


def test_nasty_names_stay_apart_even_where_case_is_ignored() -> None:
    keys = [table_key(db, table) for db in NASTY for table in NASTY]
    assert len({key.lower() for key in keys}) == len(keys)


@given(MYSQL_NAMES, MYSQL_NAMES, st.integers(0, 4_000_000_000_000_000), st.integers(1, 2**62))
def test_object_names_are_good_keys_for_every_mysql_name(db: str, table: str, cut_at_us: int, seq: int) -> None:
    layout = Layout("default", "shop")
    digest = "0123456789abcdef" * 4
    for key in (
        layout.segment(db, table, cut_at_us, seq, seq + 1, digest, "01234567"),
        layout.transactions(cut_at_us, seq, seq + 1, digest, "01234567"),
        layout.baseline("2026-05-02T100000Z", db, table, 12),
        layout.log_version(seq),
    ):
        assert check_key(key) == key
        assert key.startswith("default/shop/")
        # NAME_MAX of Linux file systems. 64 characters of three bytes each would need 1,153 bytes spelled out.
        assert max(len(part) for part in key.split("/")) <= 255


@given(MYSQL_NAMES, st.integers(1, 2**62), st.integers(0, 9))
def test_object_names_tell_their_newest_transaction(table: str, seq: int, more: int) -> None:
    layout = Layout("default", "shop")
    for digest in ("0123456789ab", "123456789012"):
        assert layout.last_seq(layout.segment("a-1", table, 0, seq, seq + more, digest, "01234567")) == seq + more
        assert layout.last_seq(layout.transactions(0, seq, seq + more, digest, "01234567")) == seq + more
        assert layout.last_seq(layout.pending(seq, digest, "01234567")) == seq
    for other in (layout.baseline("s-1", "a", table, 0), layout.log_version(seq), f"{layout.prefix}probe/0-1"):
        assert layout.last_seq(other) is None


@given(st.integers(0, 10**20 - 1))
def test_log_versions_have_an_inverse_and_sort_as_numbers(version: int) -> None:
    layout = Layout("default", "shop")
    key = layout.log_version(version)
    assert layout.parse_log_version(key) == version
    assert (key < layout.log_version(version + 1)) or version == 10**20 - 1


@pytest.mark.parametrize(
    "key", ["default/shop/log/1.json", "default/shop/log/00000000000000000001.json.tmp", "default/shop/index/1", ""]
)
def test_other_names_are_no_log_versions(key: str) -> None:
    assert Layout("default", "shop").parse_log_version(key) is None
    assert Layout("default", "shop").parse_log_version(f"x{Layout('default', 'shop').log_version(1)}") is None


@pytest.mark.parametrize(("label", "valid"), [("shop", True), ("a" * 63, True), ("a" * 64, False), ("..", False),
                                              ("", False), ("Shop", False), ("a/b", False), ("a\n", False)])  # fmt: skip
def test_labels(label: str, valid: bool) -> None:
    assert valid_label(label) is valid
