"""Batches in the form of the tables: sorted, whole, and nothing lost where they are divided."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.rows.blocks import RowBlock
from receiver.rows.columns import BIGINT, CODE, DOUBLE, POSTGRES_EPOCH_MS
from receiver.rows.model import Key, Labels, Rejected, Row, Source, arrange, each_row
from receiver.rows.reasons import Reason
from receiver.rows.tables import Column, Table
from receiver.storage.writing.labels import cut, shorten, to_json
from receiver.storage.writing.records import (
    Contents,
    Refusal,
    codes_of,
    count_samples,
    pieces,
    rejected_records,
    samples_of,
    to_milliseconds,
    to_records,
)
from tests import random_rows, strategies
from tests.blocks import row_block
from tests.messages import NOW, bits
from tests.rows import LOGS, OCR, STATUS, to_postgres_time

few = hypothesis_settings(max_examples=40)

PRESSURE = Column("pressure", "press_pressure_bar", DOUBLE)
STATE = Column("state", "press_state", CODE, codes="states", required=False)
STROKES = Column("strokes", "press_strokes_total", BIGINT, required=False)
FAULT = Column("fault", "press_fault", CODE, codes="error_codes")
PRESS = Table("press", [PRESSURE, STATE, STROKES, FAULT])


def source(number: int | None, table: Table = LOGS) -> Source:
    made = Source(table, (("instance", str(number)),))
    made.id = number
    return made


SOURCES = [source(number) for number in (1, 2, 3)]


# --- strategies -----------------------------------------------------------------------------------


@st.composite
def rejected_of(draw: st.DrawFn, rows: Iterable[Row]) -> list[Rejected]:
    """Draw rejected samples of the sources of these rows."""
    found = []
    for _, who, _ in rows:
        for _ in range(draw(st.integers(0, 2))):
            column = draw(st.sampled_from(who.table.columns))
            reason = draw(st.sampled_from(Reason))
            at, value = draw(strategies.timestamps), draw(strategies.values)
            found.append(Rejected(who, column, at, value, reason))
    return found


@st.composite
def all_contents(draw: st.DrawFn) -> Contents:
    """Draw any contents of a transaction, for some tables."""
    tables = draw(random_rows.catalogues()).tables
    rows = {table: draw(random_rows.rows_of(table)) for table in tables}
    incomplete = {table: draw(random_rows.rows_of(table, complete=False)) for table in tables}
    everything = [row for some in (*rows.values(), *incomplete.values()) for row in some]
    return Contents(
        arrange(chain.from_iterable(rows.values())),
        arrange(chain.from_iterable(incomplete.values())),
        draw(rejected_of(everything)),
        [row[:2] for row in everything if draw(st.booleans())],
        Counter({table.name: draw(st.integers(1, 9)) for table in tables}),
    )


Exact = tuple[str, Labels, int, str, int]
"""A sample: table, labels, timestamp, column, bits of the value."""


def exact(row: Row) -> list[Exact]:
    timestamp, who, values = row
    return [
        (who.table.name, who.labels, timestamp, column.name, bits(value))
        for column, value in zip(who.table.columns, values, strict=True)
        if value is not None
    ]


def exact_rejected(one: Rejected) -> tuple[Exact, Reason, str | None]:
    where = one.source.table.name, one.source.labels, one.timestamp
    return (*where, one.column.name, bits(one.value)), one.reason, one.detail


def all_rows(contents: Contents) -> list[Row]:
    return [*each_row(contents.rows), *each_row(contents.incomplete)]


def described(contents: Contents) -> Counter[str]:
    """Return all contents as text, since a NaN does not equal itself."""
    found = Counter[str]()
    for kind, some in (("row", contents.rows), ("incomplete", contents.incomplete)):
        for table, by_time in some.items():
            rows = list(each_row({table: by_time}))
            assert all(row[1].table is table for row in rows)
            found.update(repr((kind, exact(row))) for row in rows)
    found.update(repr(exact_rejected(one)) for one in contents.rejected)
    found.update(repr(("broken", at, who.labels, who.table.name)) for at, who in contents.broken)
    return found


# --- order ----------------------------------------------------------------------------------------


@few
@given(all_contents())
def test_rows_are_sorted_by_their_key_and_tables_by_their_name(contents: Contents) -> None:
    for rows in (contents.rows, contents.incomplete):
        found = to_records(rows)
        assert [table.name for table in found] == sorted(table.name for table in rows)
        for table, records in found.items():
            keys = [(source_id, created_at) for created_at, source_id, *_ in records]
            assert keys == sorted(keys)
            assert Counter(repr(record) for record in records) == Counter(
                repr((to_postgres_time(timestamp), who.id, values, who))
                for timestamp, who, values in each_row({table: rows[table]})
            )


def test_tables_without_rows_have_no_records() -> None:
    assert to_records({PRESS: {}, LOGS: {NOW: {}}}) == {}


def test_source_comes_before_time() -> None:
    late, early = (NOW + 1, SOURCES[0]), (NOW, SOURCES[2])
    other = (NOW, SOURCES[0])
    found = to_records(arrange((*at, [0.0, 0.0]) for at in (late, early, other)))[LOGS]
    assert [record[:2] for record in found] == [
        (to_postgres_time(NOW), 1),
        (to_postgres_time(NOW + 1), 1),
        (to_postgres_time(NOW), 3),
    ]


LIMITS = (random_rows.FIRST_MS, random_rows.END_MS - 1)
"""The first and the last time of TIMESTAMPTZ."""


@pytest.mark.parametrize("timestamp", [0, -1, NOW, POSTGRES_EPOCH_MS, -62_135_596_800_000, *LIMITS])
def test_a_time_is_exact(timestamp: int) -> None:
    ((record,),) = to_records({LOGS: {timestamp: {SOURCES[0]: [0.0, 0.0]}}}).values()
    assert record[0] == to_postgres_time(timestamp)
    assert record[0] == timestamp * 1000 + random_rows.UNIX_EPOCH
    assert to_milliseconds(record[0]) == timestamp


def test_a_row_of_a_source_without_an_id_is_a_fault_of_ours() -> None:
    with pytest.raises(RuntimeError, match=r"instance='None'.* has no id yet"):
        to_records({LOGS: {NOW: {SOURCES[0]: [0.0, 0.0], source(None): [0.0, None]}}})


# --- records --------------------------------------------------------------------------------------


@few
@given(all_contents())
def test_samples_are_counted(contents: Contents) -> None:
    for rows in (contents.rows, contents.incomplete):
        for table, records in to_records(rows).items():
            drawn = list(each_row({table: rows[table]}))
            samples = [one for row in drawn for one in exact(row)]
            if rows is contents.rows or table.optional:
                assert count_samples(table, records) == len(samples)
            for column in table.codes:
                codes = [row[2][column.slot] for row in drawn]
                found = codes_of(column, [record[2] for record in records])
                assert found == {int(one) for one in codes if one is not None}


@few
@given(all_contents(), st.data())
def test_a_record_becomes_its_samples(contents: Contents, data: st.DataObject) -> None:
    for table, records in to_records(contents.incomplete).items():
        only = data.draw(st.sampled_from([None, *table.columns]))
        for record in records:
            found = list(samples_of(record, Reason.UNPAIRED, "why", only))
            expected = [
                (column, value)
                for column, value in zip(table.columns, record[2], strict=True)
                if value is not None and only in {None, column}
            ]
            assert [(one.column, one.metric, bits(one.value)) for one in found] == [
                (column.name, column.metric, bits(value)) for column, value in expected
            ]
            for one in found:
                assert (one.table, one.source_id) == (table.name, record[1])
                assert to_postgres_time(one.timestamp) == record[0]
                assert (one.reason, one.detail) == (Reason.UNPAIRED, "why")
                assert (one.digest, one.labels) == (None, None)


@few
@given(all_contents())
async def test_rejected_samples_keep_every_bit(contents: Contents) -> None:
    found = await rejected_records(contents.rejected)
    assert [(*record[:5], bits(record[5]), *record[6:]) for record in found] == [
        (
            *(one.source.id, None, None, one.column.metric, one.timestamp),
            *(bits(one.value), one.reason, one.detail),
            *(one.source.table.name, one.column.name),
        )
        for one in contents.rejected
    ]


async def test_a_rejected_sample_without_a_source_has_its_labels() -> None:
    sample = Rejected(source(None, PRESS), STATE, NOW, 0.0, Reason.TOO_MANY_SOURCES, "why")
    ((source_id, key, labels, *rest),) = await rejected_records([sample])
    assert source_id is None
    assert labels == '{"instance":"None"}'
    assert key == hashlib.sha256(labels.encode()).digest()
    assert rest == ["press_state", NOW, 0.0, "too_many_new_sources", "why", "press", "state"]


async def test_a_large_label_set_is_there_once_for_all_its_rejected_samples() -> None:
    """Otherwise a request of 150 KB would become 600 MB of records."""
    labels = (("a" * 100, "b"), ("instance", "x"), ("z", "c" * 30_000), ("zz", "d"))
    who = Source(LOGS, labels)
    samples = [Rejected(who, OCR, NOW + number, 0.0, Reason.REFUSED) for number in range(3)]
    first, *others = await rejected_records(samples)
    assert json.loads(first[2] or "") == dict(labels)
    for other in others:
        assert other[1] == first[1]
        shown = json.loads(other[2] or "")
        assert shown == {"a" * 64 + "…": "b", "instance": "x", "z": "c" * 64 + "…", "zz": "d"}


def test_many_large_labels_are_cut_to_a_bounded_size() -> None:
    labels = tuple((f"label{number}", "x" * 80) for number in range(200))
    shown = to_json(cut(labels))
    assert len(shown) <= 1024
    assert len(json.loads(shown)) > 5


@given(st.dictionaries(st.text(), st.text(max_size=100), max_size=60).map(dict.items))
def test_labels_are_cut_as_late_as_possible(labels: Iterable[tuple[str, str]]) -> None:
    some = tuple(sorted(labels))
    kept = cut(some)
    if kept != some:
        assert len(to_json(kept)) <= 1024 < len(to_json(some))
        assert kept == tuple((shorten(name), shorten(value)) for name, value in some[: len(kept)])
        more = tuple((shorten(name), shorten(value)) for name, value in some[: len(kept) + 1])
        assert len(to_json(more)) > 1024 or len(kept) == len(some)


def test_a_small_label_set_is_not_cut() -> None:
    labels = (("job", "x" * 500), ("zone", "y" * 400))
    assert cut(labels) == labels


def test_pieces_have_a_bounded_size_but_at_least_one_entry() -> None:
    sizes = [3, 3, 4, 11, 1, 9, 1]
    assert list(pieces(sizes, int, 10)) == [[3, 3, 4], [11], [1, 9], [1]]
    assert not list(pieces([], int, 10))


# --- contents -------------------------------------------------------------------------------------


@few
@given(all_contents(), st.data())
def test_parting_loses_and_repeats_nothing(contents: Contents, data: st.DataObject) -> None:
    sources = sorted(contents.sources(), key=repr)
    chosen = data.draw(st.sets(st.sampled_from(sources))) if sources else set[Source]()
    first, second = contents.part(chosen.__contains__)
    assert described(first) + described(second) == described(contents)
    assert first.size() + second.size() == contents.size()
    assert Counter(first.repeated) + Counter(second.repeated) == contents.repeated
    assert first.sources() <= chosen
    assert chosen.isdisjoint(second.sources())
    # Each part is written separately, so it must not contain tables without rows.
    for part in (first, second):
        assert all([*part.rows.values(), *part.incomplete.values()])


def move_to_arrays(contents: Contents, data: st.DataObject) -> Contents:
    """Move some of the complete rows to arrays."""
    rows: list[Row] = []
    blocks: defaultdict[Table, list[RowBlock]] = defaultdict(list)
    either = st.booleans()
    for row in each_row(contents.rows):
        table = row[1].table
        if None in row[2] or data.draw(either):
            rows.append(row)
        elif data.draw(either) and blocks[table]:
            blocks[table][-1] = row_block([*blocks[table][-1].rows(), row])
        else:
            blocks[table].append(row_block([row]))
    return contents._replace(rows=arrange(rows), blocks=dict(blocks))


@given(all_contents(), st.data())
def test_it_does_not_matter_which_rows_are_in_arrays(
    contents: Contents, data: st.DataObject
) -> None:
    moved = move_to_arrays(contents, data)
    assert described(moved.one_by_one()) == described(contents)
    for count in (Contents.size, Contents.row_count):
        assert count(moved) == count(contents)
    assert moved.sources() == contents.sources()
    assert moved.timestamps() == contents.timestamps()
    assert {**moved.codes()} == contents.codes()
    chosen = data.draw(st.sets(st.sampled_from([*contents.sources(), None])))
    parts = zip(moved.part(chosen.__contains__), contents.part(chosen.__contains__), strict=True)
    for one, other in parts:
        assert described(one) == described(other)
        assert not one.blocks

    def refuse(row: Row) -> Refusal | None:
        return Refusal(Reason.REFUSED) if row[1] in chosen else None

    assert described(moved.without(refuse)) == described(contents.without(refuse))


@few
@given(all_contents())
def test_what_is_counted_and_looked_up(contents: Contents) -> None:
    rows = all_rows(contents)
    assert contents.size() == len(rows) + len(contents.rejected)
    assert contents.row_count() == len(list(each_row(contents.rows)))
    assert contents.sources() == {row[1] for row in rows} | {
        one.source for one in contents.rejected
    }
    times: defaultdict[Table, set[int]] = defaultdict(set)
    codes: defaultdict[str, set[int]] = defaultdict(set)
    for timestamp, who, values in rows:
        times[who.table].add(timestamp)
        for column, value in zip(who.table.columns, values, strict=True):
            if column.codes and value is not None:
                codes[column.codes].add(int(value))
    assert contents.timestamps() == times
    assert {name: some for name, some in contents.codes().items() if some} == codes


REFUSED = Refusal(Reason.REFUSED, "why")


@few
@given(all_contents())
def test_everything_refused_is_every_sample_with_its_value(contents: Contents) -> None:
    refused = contents.without(lambda _: REFUSED)
    assert not all_rows(refused)
    assert refused.broken == [*contents.broken, *(row[:2] for row in all_rows(contents))]
    expected = [
        *map(exact_rejected, contents.rejected),
        *((one, Reason.REFUSED, "why") for row in all_rows(contents) for one in exact(row)),
    ]
    assert Counter(map(exact_rejected, refused.rejected)) == Counter(expected)
    assert refused.repeated == contents.repeated


@few
@given(all_contents())
def test_nothing_refused_is_the_same(contents: Contents) -> None:
    assert described(contents.without(lambda _: None)) == described(contents)


class Apart(NamedTuple):
    """What becomes of the samples of a row of which some columns are refused, in this order."""

    kept: list[Exact]
    rejected: list[tuple[Exact, Reason, str | None]]
    broken: bool


def take_apart(row: Row, faults: Iterable[Column | None]) -> Apart:
    kept, rejected = exact(row), list[tuple[Exact, Reason, str | None]]()
    for column in faults:
        refused = [one for one in kept if column is None or one[3] == column.name]
        kept = [one for one in kept if one not in refused]
        rejected += [(one, Reason.TOO_MANY_CODES, "why") for one in refused]
        if column is None or column.required:
            rejected += [(one, Reason.WITH_OTHER, None) for one in kept]
            return Apart([], rejected, broken=True)
        if not kept:
            break
    return Apart(kept, rejected, broken=False)


@hypothesis_settings(max_examples=100)
@given(all_contents(), st.data())
def test_what_is_refused_takes_along_what_cannot_be_without_it(
    contents: Contents, data: st.DataObject
) -> None:
    """Of each row any columns may be refused, or the whole."""
    faults: dict[Key, list[Column | None]] = {}
    for timestamp, who, values in all_rows(contents):
        there = [column for column in who.table.columns if values[column.slot] is not None]
        faults[timestamp, who] = data.draw(
            st.lists(st.sampled_from([None, *there]), max_size=2, unique=True)
        )

    def refuse(row: Row) -> Refusal | None:
        timestamp, who, values = row
        for column in faults[timestamp, who]:
            if column is None or values[column.slot] is not None:
                return Refusal(Reason.TOO_MANY_CODES, "why", column)
        return None

    parts = [(row, take_apart(row, faults[row[:2]])) for row in all_rows(contents)]
    found = contents.without(refuse)
    assert Counter(map(exact_rejected, found.rejected)) == Counter(
        [*map(exact_rejected, contents.rejected), *(one for _, apart in parts for one in apart[1])]
    )
    assert [exact(row) for row in all_rows(found)] == [one.kept for _, one in parts if one.kept]
    assert found.broken == [*contents.broken, *(row[:2] for row, one in parts if one.broken)]
    assert not any(row[1].table.lacks(row[2]) for row in each_row(found.rows))


def test_the_other_samples_of_a_refused_one_are_rejected_with_it() -> None:
    row: Row = NOW, SOURCES[0], [-0.0, NOW / 1000]
    refusal = Refusal(Reason.TOO_MANY_CODES, "why", STATUS)
    status, ocr = Contents(arrange([row]), {}, []).without(lambda _: refusal).rejected
    assert exact_rejected(status) == exact_rejected(
        Rejected(SOURCES[0], STATUS, NOW, -0.0, Reason.TOO_MANY_CODES, "why")
    )
    assert ocr == Rejected(SOURCES[0], OCR, NOW, NOW / 1000, Reason.WITH_OTHER)


def test_a_row_is_stored_without_an_optional_sample_that_is_refused() -> None:
    who = source(1, PRESS)
    row: Row = NOW, who, [5.5, 0.0, 7.0, None]

    def refuse(one: Row) -> Refusal | None:
        refused = one[2][STATE.slot] is not None
        return Refusal(Reason.TOO_MANY_CODES, "why", STATE) if refused else None

    values: Mapping[Column, float] = {PRESSURE: 5.5, FAULT: 0.0, STATE: 7.0}
    assert row[2] == [values.get(column) for column in PRESS.columns]
    found = Contents(arrange([row]), {}, []).without(refuse)
    assert found.rows == {PRESS: {NOW: {who: [5.5, 0.0, None, None]}}}
    assert found.rejected == [Rejected(who, STATE, NOW, 7.0, Reason.TOO_MANY_CODES, "why")]
    assert not found.broken
    # The original row is not modified, as it may have to be written again.
    assert row[2] == [5.5, 0.0, 7.0, None]
