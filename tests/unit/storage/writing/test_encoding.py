"""Rows encoded as parameters of statements, to the last bit."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.rows.tables import Table
from receiver.storage.writing.each import to_json
from receiver.storage.writing.encoding import to_columns, to_entries
from receiver.storage.writing.records import Record
from receiver.storage.writing.statements import Statements
from tests.records import exact, expected, records, sql_types

few = hypothesis_settings(max_examples=60)


@few
@given(st.one_of(records(), records(complete=False)), st.booleans())
def test_columns_hold_every_value(drawn: tuple[Table, list[Record]], labels: bool) -> None:
    table, rows = drawn
    columns = to_columns(table, rows, labels=labels)
    wanted = [expected(table, row, labels=labels) for row in rows]
    assert [exact(column) for column in columns] == [
        exact(column) for column in zip(*wanted, strict=True)
    ]
    assert len(columns) == len(Statements(table).columns) - (0 if labels else len(table.labels))
    assert [exact(entry) for entry in to_entries(table, rows, labels=labels)] == list(
        map(exact, wanted)
    )


@few
@given(st.one_of(records(), records(complete=False)))
def test_an_entry_in_json_holds_every_value(drawn: tuple[Table, list[Record]]) -> None:
    """As PostgreSQL reads its elements: as text, which is read as the column's type."""
    table, rows = drawn
    for entry, row in zip(to_entries(table, rows), rows, strict=True):
        written = json.loads(to_json(entry))
        for kind, found, value in zip(sql_types(table), written, expected(table, row), strict=True):
            if value is None:
                assert found is None
            elif kind == "double precision":
                # A NaN is a NaN to PostgreSQL, whatever its bits.
                assert isinstance(found, str)
                assert exact([float(found)]) == exact([value]) or found == "nan"
                assert (found == "nan") == (value != value)  # noqa: PLR0124  NaN
            else:
                assert (type(found), found) == (type(value), value)
