"""Incomplete rows keep exact values by column name, however the table changes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from receiver.rows.columns import CODE, DOUBLE, SPECIAL_DOUBLE
from receiver.rows.model import Source
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Column, Table, Values
from receiver.storage.writing.pending import (
    UNDECLARED,
    Met,
    Unfit,
    from_json,
    take_in,
    to_json,
    unfit_samples,
)
from receiver.storage.writing.records import Record
from tests import random_rows
from tests.messages import NOW, bits
from tests.random_rows import alike, reading
from tests.rows import LOGS, to_postgres_time

NAN = float("nan")


@st.composite
def samples(draw: st.DrawFn) -> tuple[Table, Values]:
    """Draw a table and any of its samples."""
    table = draw(random_rows.tables())
    return table, [
        draw(st.one_of(st.none(), random_rows.taken_by(column))) for column in table.columns
    ]


def exact(value: float | None) -> object:
    """Return a value's bits; all NaNs are equal."""
    return value if value is None or value != value else bits(value)  # noqa: PLR0124  NaN


@given(samples())
def test_samples_are_read_as_they_were_written(drawn: tuple[Table, Values]) -> None:
    table, values = drawn
    written = to_json(table, values)
    # PostgreSQL's JSON takes neither NaN nor numbers of all sizes, so all are strings.
    assert all(isinstance(value, str) for value in json.loads(written).values())
    found, others = from_json(table, written)
    assert list(map(repr, map(exact, found))) == list(map(repr, map(exact, values)))
    assert others == []


@given(samples(), st.data())
def test_samples_are_read_by_name_whatever_the_table_has_become(
    drawn: tuple[Table, Values], data: st.DataObject
) -> None:
    table, values = drawn
    kept = data.draw(st.permutations(table.columns))[: data.draw(st.integers(1, table.width))]
    new = Column("a new one", "another metric", DOUBLE, required=False)
    later = Table(
        table.name,
        [Column(one.name, one.metric, one.type, required=one.required) for one in [*kept, new]],
    )
    found, others = from_json(later, to_json(table, values))
    by_name = {column.name: repr(value) for column, value in table.samples(values)}
    names = {column.name for column in later.columns}
    assert {column.name: repr(value) for column, value in later.samples(found)} == {
        name: value for name, value in by_name.items() if name in names
    }
    assert {one.name: repr(one.value) for one in others} == {
        name: value for name, value in by_name.items() if name not in names
    }
    assert {(one.column, one.detail) for one in others} <= {(None, UNDECLARED)}


def test_nothing_waits_where_there_is_nothing() -> None:
    assert from_json(LOGS, None) == ([None, None], [])


def test_samples_of_columns_that_are_not_declared_keep_their_names() -> None:
    place = "press", to_postgres_time(NOW), 7
    unfit = Unfit("speed", None, -0.0, Reason.UNPAIRED, UNDECLARED)
    (one,) = unfit_samples(place, [unfit])
    assert (one.table, one.source_id, one.timestamp) == ("press", 7, NOW)
    assert (one.column, one.metric, bits(one.value)) == ("speed", "speed", bits(-0.0))
    assert (one.reason, one.detail) == (Reason.UNPAIRED, UNDECLARED)


# --- completion of an incomplete row --------------------------------------------------------------


@st.composite
def merged(draw: st.DrawFn) -> tuple[Table, Values, Values | None]:
    """Draw a table, new samples, and the samples of an incomplete row."""
    table, brought = draw(samples())
    before: Values = [
        draw(st.one_of(st.none(), st.just(value), random_rows.taken_by(column)))
        for column, value in zip(table.columns, brought, strict=True)
    ]
    return table, brought, draw(st.sampled_from([None, before]))


@given(merged())
def test_every_sample_waits_completes_repeats_or_contradicts(
    drawn: tuple[Table, Values, Values | None],
) -> None:
    table, brought, before = drawn
    waited: Values = before or [None] * table.width
    # As the statement merges them: the first value stays.
    now = [new if old is None else old for new, old in zip(brought, waited, strict=True)]
    source = Source(table, ())
    source.id = 7
    met = Met({table: []}, {table: []}, {table: {}}, [], Fates(), {})
    record: Record = (0, 7, brought, source)
    json_before = None if before is None else to_json(table, before)
    take_in(met, table, record, to_json(table, now), json_before)
    complete = all(now[column.slot] is not None for column in table.columns if column.required)
    (found,) = (met.completed if complete else met.waiting)[table]
    assert not (met.waiting if complete else met.completed)[table]
    assert list(map(repr, found[2])) == list(map(repr, now))
    assert (found[:2], found[3]) == ((0, 7), source)
    repeated, conflicts = 0, []
    for column, new, old in zip(table.columns, brought, waited, strict=True):
        if new is not None and old is not None:
            if alike(reading(column.type, new), reading(column.type, old)):
                repeated += 1
            else:
                conflicts.append(column.name)
    assert met.fates[table.name, Fate.DUPLICATE] == repeated
    assert [(one.column, one.reason) for one in met.rejected] == [
        (name, Reason.CONFLICT) for name in conflicts
    ]


def test_a_sample_that_a_trigger_takes_away_is_not_lost() -> None:
    source = Source(LOGS, ())
    source.id = 7
    met = Met({LOGS: []}, {LOGS: []}, {LOGS: {}}, [], Fates(), {})
    take_in(met, LOGS, (0, 7, [3.0, None], source), "{}", None)
    (one,) = met.rejected
    assert (one.column, one.value, one.reason) == ("app_status", 3.0, Reason.REFUSED)


def test_a_sample_contradicts_a_waiting_one_that_does_not_fit_any_more() -> None:
    source = Source(LOGS, ())
    source.id = 7
    met = Met({LOGS: []}, {LOGS: []}, {LOGS: {}}, [], Fates(), {})
    waiting = '{"app_status": "0.5"}'
    take_in(met, LOGS, (0, 7, [0.0, None], source), waiting, waiting)
    (one,) = met.rejected
    assert (one.column, one.value, one.reason) == ("app_status", 0.0, Reason.CONFLICT)
    assert not met.waiting[LOGS]
    assert met.broken == {("app_logs", 0, 7): source}


def test_values_of_every_kind_are_exact_as_text() -> None:
    column = Column("value", "value", SPECIAL_DOUBLE)
    code = Column("code", "code", CODE, codes="states")
    table = Table("t", [column, code])
    for value in (-0.0, 5e-324, 0.1, 1.7976931348623157e308, float("inf"), -float("inf")):
        found, _ = from_json(table, to_json(table, [value, -0.0]))
        assert list(map(exact, found)) == [bits(value), bits(-0.0)]
    found, _ = from_json(table, to_json(table, [NAN, 1.0]))
    assert repr(found) == "[nan, 1.0]"
