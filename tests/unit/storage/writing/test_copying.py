"""Rows in the binary format of COPY, byte by byte."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.rows.blocks import RowBlock
from receiver.rows.columns import BIGINT, BOOLEAN, CODE, DOUBLE, SPECIAL_DOUBLE
from receiver.rows.model import Source
from receiver.rows.tables import Column, LabelColumn, Table, Values
from receiver.storage.writing.copying import encode_copy, encode_label, from_records, gather
from receiver.storage.writing.records import Record, to_milliseconds
from tests.blocks import row_block
from tests.messages import from_bits
from tests.random_rows import TYPES, reading
from tests.records import escaped, exact, expected, records, sql_types
from tests.rows import LOGS

few = hypothesis_settings(max_examples=60)


def parse_copy(stream: bytes) -> list[list[bytes | None]]:
    """Read PostgreSQL's binary format (documentation of COPY, "Binary Format")."""
    signature, flags, extension = struct.unpack_from(">11sii", stream)
    assert signature == b"PGCOPY\n\xff\r\n\0"
    assert flags == 0
    place = 19 + extension
    tuples: list[list[bytes | None]] = []
    while True:
        (fields,) = struct.unpack_from(">h", stream, place)
        place += 2
        if fields == -1:
            assert place == len(stream)
            return tuples
        values: list[bytes | None] = []
        for _ in range(fields):
            (size,) = struct.unpack_from(">i", stream, place)
            place += 4
            values.append(None if size == -1 else stream[place : place + size])
            place += max(size, 0)
        tuples.append(values)


def parse_field(sql: str, field: bytes | None) -> Any:  # noqa: ANN401  any type
    """Read a field as the type's receive function does."""
    if field is None:
        return None
    if sql == "text":
        assert b"\0" not in field
        return field.decode()
    if sql == "double precision":
        return struct.unpack(">d", field)[0]
    if sql == "boolean":
        assert field in {b"\0", b"\1"}
        return field == b"\1"
    assert len(field) == {"integer": 4, "bigint": 8, "timestamptz": 8}[sql]
    return int.from_bytes(field, "big", signed=True)


# --- COPY -----------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=200)
@given(records())
def test_a_copy_holds_every_value(drawn: tuple[Table, list[Record]]) -> None:
    table, rows = drawn
    parsed = parse_copy(bytes(encode_copy(from_records(table, rows))))
    assert len(parsed) == len(rows)
    types = sql_types(table)
    for fields, row in zip(parsed, rows, strict=True):
        found = [parse_field(sql, field) for sql, field in zip(types, fields, strict=True)]
        assert exact(found) == exact(expected(table, row))


@hypothesis_settings(max_examples=200)
@given(records(), st.data())
def test_rows_in_arrays_are_copied_like_others(
    drawn: tuple[Table, list[Record]], data: st.DataObject
) -> None:
    table, some = drawn
    some = [record for record in some if None not in record[2]]
    assume(some)
    blocks: list[RowBlock] = []
    rest: list[Record] = []
    for record in some:
        created_at, _, values, source = record
        if data.draw(st.booleans()):
            rest.append(record)
        else:
            blocks.append(row_block([(to_milliseconds(created_at), source, values)]))
    blocks = data.draw(st.permutations(blocks))
    records_left = {table: rest} if rest else {}
    (arrays,) = gather(records_left, {table: blocks} if blocks else {}).values()
    # Two of the drawn sources may have the same id; their rows of one time have no fixed order.
    assert sorted(parse_copy(bytes(encode_copy(arrays))), key=repr) == sorted(
        parse_copy(bytes(encode_copy(from_records(table, some)))), key=repr
    )
    keys = list(zip(arrays.created_at.tolist(), arrays.source_ids.tolist(), strict=True))
    assert keys == [record[:2] for record in some]


def made_of_all_types(*, required: bool) -> tuple[Table, Record]:
    """Return a table with a column of each type, and a row."""
    columns = [
        Column(name, f"metric_{name}", kind, required=required) for name, kind in TYPES.items()
    ]
    # The first is not NULL in any row.
    columns.insert(0, Column("needed", "needed", BIGINT))
    labels = [
        LabelColumn("line", "line", "text"),
        LabelColumn("number", "number", "bigint"),
        LabelColumn("none", "none", "text"),
    ]
    table = Table("all types", columns, labels=labels)
    values = {
        "needed": -2.0,
        "code": -1.0,
        "bigint": 2.0**40,
        "double": -0.0,
        "special": float("inf"),
        "boolean": 1.0,
        "seconds": 946_684_800.5,
        "milliseconds": 946_684_800_001.0,
    }
    source = Source(table, (("line", "값\0␀"), ("number", "-7")))
    return table, (1, 2, [values[column.name] for column in table.columns], source)


@pytest.mark.parametrize("required", [True, False], ids=["required", "optional"])
def test_a_copy_of_one_row_byte_by_byte(required: bool) -> None:
    fields = (
        "5047434f50590aff0d0a00 00000000 00000000"
        "000d"
        "00000008 0000000000000001"
        "00000004 00000002"
        "00000008 fffffffffffffffe"
        "00000004 ffffffff"
        "00000008 0000010000000000"
        "00000008 8000000000000000"
        "00000008 7ff0000000000000"
        "00000001 01"
        "00000008 000000000007a120"
        "00000008 00000000000003e8"
        "0000000d eab092 e2908030 e29080e29080"
        "00000008 fffffffffffffff9"
        "ffffffff"
        "ffff"
    )
    table, record = made_of_all_types(required=required)
    assert bytes(encode_copy(from_records(table, [record]))) == bytes.fromhex(fields)


def test_a_copy_of_the_pair_byte_by_byte() -> None:
    fields = (
        "5047434f50590aff0d0a00 00000000 00000000"
        "0004"
        "00000008 0000000000000001"
        "00000004 00000002"
        "00000004 ffffffff"
        "00000008 fffffffffffffffe"
        "ffff"
    )
    record: Record = (1, 2, [-1.0, 946_684_799.999998], Source(LOGS, ()))
    assert bytes(encode_copy(from_records(LOGS, [record]))) == bytes.fromhex(fields)


def test_a_copy_is_a_view_for_asyncpg() -> None:
    assert isinstance(encode_copy(from_records(*one_row())), memoryview)


def one_row() -> tuple[Table, list[Record]]:
    table, record = made_of_all_types(required=False)
    return table, [record]


def test_a_missing_sample_is_null() -> None:
    table, (created_at, source_id, values, source) = made_of_all_types(required=False)
    lacking: Values = [values[0], *[None] * (table.width - 1)]
    parsed = parse_copy(
        bytes(encode_copy(from_records(table, [(created_at, source_id, lacking, source)])))
    )
    assert [field is None for field in parsed[0]] == [
        *(False, False, False),
        *[True] * (table.width - 1),
        *(False, False, True),
    ]


def test_as_many_columns_as_a_table_can_have() -> None:
    columns = [Column(f"c{number}", f"m{number}", DOUBLE) for number in range(500)]
    table = Table("wide", columns)
    rows: list[Record] = [(at, 1, [float(at)] * 500, Source(table, ())) for at in range(3)]
    for fields, row in zip(
        parse_copy(bytes(encode_copy(from_records(table, rows)))), rows, strict=True
    ):
        assert [parse_field("double precision", field) for field in fields[2:]] == row[2]


# --- labels ---------------------------------------------------------------------------------------


@given(st.lists(st.text(), unique=True, max_size=5))
def test_different_texts_stay_different_without_nul(texts: list[str]) -> None:
    more = [*texts, *(text.replace("\0", "␀") for text in texts), "\0", "␀", "␀0", "\0␀", "␀\0"]
    encoded = {text: encode_label(text) for text in more}
    assert len(set(encoded.values())) == len(encoded)
    for text, field in encoded.items():
        (size,) = struct.unpack_from(">i", field)
        assert size == len(field) - 4
        assert field[4:].decode() == escaped(text)


def test_labels_stand_behind_the_rows_of_their_source() -> None:
    labels = [LabelColumn("line", "line", "text"), LabelColumn("number", "number", "bigint")]
    optional = Column("noted", "noted", DOUBLE, required=False)
    table = Table("t", [Column("level", "level", DOUBLE), optional], labels=labels)
    one, other = Source(table, (("line", "1"), ("number", "1"))), Source(table, (("line", ""),))
    rows: list[Record] = [
        (1, 1, [0.5, None], one),
        (1, 2, [1.5, 2.5], other),
        (2, 1, [2.5, 3.5], one),
    ]
    found = [fields[4:] for fields in parse_copy(bytes(encode_copy(from_records(table, rows))))]
    assert found == [[b"1", bytes(7) + b"\x01"], [b"", None], [b"1", bytes(7) + b"\x01"]]


@pytest.mark.parametrize("kind", [SPECIAL_DOUBLE, DOUBLE, CODE, BOOLEAN])
def test_a_special_value_is_copied_with_its_bits(kind: Any) -> None:  # noqa: ANN401  a type
    column = Column("value", "value", kind)
    table = Table("t", [column])
    value = from_bits(0xFFF8000000001234) if kind is SPECIAL_DOUBLE else 1.0
    ((_, _, field),) = parse_copy(
        bytes(encode_copy(from_records(table, [(1, 2, [value], Source(table, ()))])))
    )
    assert exact([parse_field(kind.sql, field)]) == exact([reading(kind, value)])
