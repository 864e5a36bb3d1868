"""The type matrix through the whole of capture: what the archive's segments hold is what SELECT said at that moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from exactness import in_order
from rowback import Rowback
from rowstory import Image, Run, Story, check, set_bits
from typematrix import cases

from dataflow.rows import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE
from recovery.archive import segments
from recovery.context import open_context
from recovery.schema import Table

OPERATIONS = {
    segments.INSERT: INSERT,
    segments.DELETE: DELETE,
    segments.UPDATE_BEFORE: UPDATE_BEFORE,
    segments.UPDATE_AFTER: UPDATE_AFTER,
}


def archived(table: Table, data: pa.Table) -> list[Image]:
    columns = [data.column(c.archive_name).to_pylist() for c in table.columns]
    found = []
    for i, (op, bits, exact) in enumerate(
        zip(*(data.column(name).to_pylist() for name in ("_rb_op", "_rb_changed", "_rb_exact")), strict=True)
    ):
        texts = dict(exact or ())
        cells = tuple((values[i], texts.get(c.name)) for values, c in zip(columns, table.columns, strict=True))
        found.append(Image(OPERATIONS[op], cells, None if bits is None else set_bits(bits)))
    return found


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    ("flavor", "metadata"), [("mysql", "FULL"), ("mysql", "MINIMAL"), ("mariadb", "FULL"), ("mariadb", "NO_LOG")]
)
def test_the_archive_holds_what_select_returned(
    flavor: str, metadata: str, request: pytest.FixtureRequest, tmp_path: Path, unique_name: Callable[[str], str]
) -> None:
    server = request.getfixturevalue(f"fresh_{flavor}")(name="matrix", options={"binlog_row_metadata": metadata})
    run = Run(server, unique_name("matrix"))
    rowback = Rowback(tmp_path / "rowback", server, extra=f'include = ["{run.database}.*"]')
    rowback.catch_up()
    # Servers print a character that they can't show in a label as `?`: such tables are refused without FULL.
    matrix = {f"t{i}": c for i, c in enumerate(cases(flavor)) if metadata == "FULL" or (c.shown and "?" not in c.ddl)}
    for name, case in matrix.items():
        run.live(name, case)
    run.connection.close()
    rowback.catch_up()
    context = open_context(rowback.config)
    state = context.log.read()
    assert not state.holes
    found: dict[str, list[Image]] = defaultdict(list)
    tables: dict[str, Table] = {}
    for table, data in in_order(context, state):
        tables[table.name] = table
        found[table.name] += archived(table, data)
    wrong = []
    for name, case in matrix.items():
        try:
            check(Story(*run.told[name], []), tables[name], found[name])
        except (AssertionError, KeyError, ValueError) as error:
            wrong.append(f"{case.ddl}: {type(error).__name__} {error}"[:600])
    assert not wrong, "\n".join(wrong)
