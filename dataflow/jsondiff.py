"""Partial JSON updates: a document before the update and the binlog's list of differences to the text after it.

With binlog_row_value_options=PARTIAL_JSON the server logs JSON_SET, JSON_REPLACE and JSON_REMOVE as a Json_diff_vector in
place of the new document. Promises: the same result as the server's own replica (sql-common/json_diff.cc, apply_json_diff);
a difference that doesn't fit the document raises ValueError, as the replica would stop there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from dataflow import jsonb
from dataflow.jsonb import Array, Node, Object

_REPLACE, _INSERT, _REMOVE = 0, 1, 2  # enum_json_diff_operation
# Json_path::to_string and parse_path: `$`, then `.name`, `."quoted name"` or `[3]`, `[last]`, `[last-3]`.
_SCOPE: Final = re.compile(r"\s*\$\s*", re.ASCII)
_LEG: Final = re.compile(
    r'(?:\.\s*(?P<quoted>"(?:[^"\\]|\\.)*")|\.\s*(?P<name>[^\s\[.*"]+)'
    r"|\[\s*(?:(?P<last>last)(?:\s*-\s*(?P<back>\d+))?|(?P<index>\d+))\s*\])\s*",
    re.ASCII | re.DOTALL,
)


@dataclass(frozen=True)
class _Cell:
    """An array index; from_end counts back from the last element."""

    index: int
    from_end: bool

    def place(self, length: int) -> tuple[int, bool]:
        """The position, and whether there is an element (Json_array_index)."""
        if self.from_end:
            return max(length - 1 - self.index, 0), self.index < length
        return min(self.index, length), self.index < length


_Leg = bytes | _Cell


def apply_diffs(document: bytes, diffs: bytes) -> str:
    """The text of the document after the differences. diffs: the Json_diff_vector behind its 4-byte length.

    Raises ValueError for damaged data, or if a difference doesn't apply.
    """
    root = jsonb.parse(document)
    at = 0
    try:
        while at < len(diffs):
            operation = diffs[at]
            path, at = _counted(diffs, at + 1)
            value: Node = "null"
            if operation != _REMOVE:
                raw, at = _counted(diffs, at)
                value = jsonb.parse(raw)
            _apply(root, operation, _legs(path.decode()), value)
    except IndexError as error:
        raise ValueError("a partial JSON update is cut short") from error
    return jsonb.render(root)


def _counted(data: bytes, at: int) -> tuple[bytes, int]:
    """A length-encoded string (net_field_length) and where the next thing starts."""
    first = data[at]
    at += 1
    length = first
    if first > 250:
        if first not in (252, 253, 254):
            raise ValueError("a partial JSON update has an impossible length")
        width = {252: 2, 253: 3, 254: 8}[first]
        length, at = int.from_bytes(data[at : at + width], "little"), at + width
    if at + length > len(data):
        raise ValueError("a partial JSON update is cut short")
    return data[at : at + length], at + length


def _legs(path: str) -> list[_Leg]:
    scope = _SCOPE.match(path)
    if not scope:
        raise ValueError("a partial JSON update has a path that doesn't begin with `$`")
    legs: list[_Leg] = []
    at = scope.end()
    while at < len(path):
        found = _LEG.match(path, at)
        if not found:
            raise ValueError("a partial JSON update has a path that doesn't parse")
        at = found.end()
        if found["quoted"] or found["name"]:
            legs.append(str(json.loads(found["quoted"] or f'"{found["name"]}"')).encode())
        else:
            legs.append(_Cell(int(found["back"] or found["index"] or 0), bool(found["last"])))
    return legs


def _seek(node: Node, legs: list[_Leg]) -> Node:
    for leg in legs:
        node = _child(node, leg)[1]
    return node


def _child(parent: Node, leg: _Leg) -> tuple[int, Node]:
    """The index and value of an element that must be there."""
    if isinstance(parent, Object) and isinstance(leg, bytes) and leg in parent.keys:
        index = parent.keys.index(leg)
        return index, parent.values[index]
    if isinstance(parent, Array) and isinstance(leg, _Cell):
        index, there = leg.place(len(parent.items))
        if there:
            return index, parent.items[index]
    raise ValueError("a partial JSON update names an element that the document doesn't have")


def _apply(root: Node, operation: int, legs: list[_Leg], value: Node) -> None:
    if not legs or operation not in (_REPLACE, _INSERT, _REMOVE):
        raise ValueError("a partial JSON update of an unknown kind")
    parent, leg = _seek(root, legs[:-1]), legs[-1]
    if operation == _INSERT:
        _insert(parent, leg, value)
        return
    index, _ = _child(parent, leg)
    assert not isinstance(parent, str)
    items = parent.items if isinstance(parent, Array) else parent.values
    if operation == _REPLACE:
        items[index] = value
        return
    del items[index]
    if isinstance(parent, Object):
        del parent.keys[index]


def _insert(parent: Node, leg: _Leg, value: Node) -> None:
    if isinstance(parent, Array) and isinstance(leg, _Cell):
        parent.items.insert(leg.place(len(parent.items))[0], value)
    elif isinstance(parent, Object) and isinstance(leg, bytes) and leg not in parent.keys:
        # Json_key_comparator: by length, then by bytes.
        index = sum((len(key), key) < (len(leg), leg) for key in parent.keys)
        parent.keys.insert(index, leg)
        parent.values.insert(index, value)
    else:
        raise ValueError("a partial JSON update inserts where the document doesn't allow it")
