"""Incomplete rows in the database: where samples wait for the others of their row."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from receiver.rows.model import Key, Source
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Column, Table, Values
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection
from receiver.storage.writing import distributed
from receiver.storage.writing.each import TIME, run_for_each
from receiver.storage.writing.judging import judge, readings
from receiver.storage.writing.records import (
    KEY,
    Record,
    Records,
    RejectedRecord,
    RowKey,
    conflicts_of,
    samples_of,
    to_microseconds,
    to_milliseconds,
)
from receiver.storage.writing.registry import DISCARDED

UNDECLARED: Final = "its column is no longer declared"

Place: TypeAlias = tuple[str, int, int]
"""Identifies a row in all tables: the table's name, created_at, source_id."""
Found: TypeAlias = dict[Place, tuple[str, str | None]]
"""Rows of `pending_rows`: the samples, and those that were there before, as JSON."""

# Merges samples with those that wait, or lets them wait. Because of the unique key, of two
# transactions that bring samples of one row the second waits for the first, sees all samples, and
# completes the row.
_UPSERT: Final = """
INSERT INTO pending_rows AS p (table_name, created_at, source_id, samples)
SELECT table_name, created_at, source_id, samples FROM {entries}
ORDER BY table_name COLLATE "C", source_id, created_at
ON CONFLICT (source_id, created_at, table_name) DO UPDATE SET
    before = p.samples, samples = EXCLUDED.samples || p.samples
"""
UPSERT: Final = (
    _UPSERT.format(
        entries="""unnest($1::text[], $2::timestamptz[], $3::int[], $4::jsonb[])
    AS entry (table_name, created_at, source_id, samples)"""
    )
    + "RETURNING table_name, created_at, source_id, samples, before"
)
UPSERT_EACH: Final = _UPSERT.format(
    entries=f"""(
    SELECT entry ->> 0 AS table_name, {TIME.format("(entry ->> 1)")} AS created_at,
        (entry ->> 2)::int AS source_id, (entry ->> 3)::jsonb AS samples
    FROM unnest($1) AS entry
) AS entry"""
)

_WANTED: Final = """
unnest($1::text[], $2::timestamptz[], $3::int[]) AS wanted (table_name, created_at, source_id)
"""
# LATERAL with LIMIT is one lookup for each row, where a join would be a nested loop over all rows
# as soon as statistics say that the table is empty, as this one mostly is.
_PENDING: Final = f"""
{_WANTED}, LATERAL (
    SELECT *, ctid FROM pending_rows p
    WHERE (p.source_id, p.created_at, p.table_name)
        = (wanted.source_id, wanted.created_at, wanted.table_name)
    LIMIT 1
) AS row
"""

FIND: Final = f"""
SELECT row.table_name, row.created_at, row.source_id, row.samples, row.before FROM {_PENDING}
"""
DELETE: Final = f"""
DELETE FROM pending_rows WHERE ctid = ANY(ARRAY(SELECT row.ctid FROM {_PENDING}))
"""
# Takes rows out. Rows that another transaction has locked are left to that one, or to maintenance:
# waiting for them could end in a deadlock.
TAKE: Final = f"""
WITH taken AS (
    SELECT ctid FROM pending_rows WHERE ctid = ANY(ARRAY(SELECT row.ctid FROM {_PENDING}))
    FOR UPDATE SKIP LOCKED
)
DELETE FROM pending_rows p WHERE ctid = ANY(ARRAY(SELECT ctid FROM taken))
RETURNING p.table_name, p.created_at, p.source_id, p.samples
"""


class Unfit(NamedTuple):
    """A waiting sample that does not fit the declaration, which has changed since it came."""

    name: str
    """The column that it waits for."""
    column: Column | None
    """This column; None if it is no longer declared."""
    value: float
    reason: Reason
    detail: str | None


Misfits: TypeAlias = Mapping[RowKey, Sequence[Unfit]]
"""The unfit samples of rows, by key."""


class Met(NamedTuple):
    """The outcomes of incomplete rows that were merged into `pending_rows`."""

    completed: Records
    """Rows that are complete, and no longer pending."""
    waiting: Records
    """Rows that wait, with all their waiting samples that fit."""
    unfit: dict[Table, dict[RowKey, Sequence[Unfit]]]
    """Other samples of the rows that wait, by table and key."""
    rejected: list[RejectedRecord]
    """Samples that contradict a waiting one, or that the database refuses."""
    fates: Fates
    broken: dict[Place, Source]
    """Rows of which a required sample does not fit, or the database refuses a sample."""


def to_json(table: Table, values: Values) -> str:
    """Write samples as JSON: values as strings, which hold every number exactly, and NaN."""
    return json.dumps({column.name: repr(value) for column, value in table.samples(values)})


def from_json(table: Table, samples: str | None) -> tuple[Values, list[Unfit]]:
    """Read samples; return those that fit the table's columns, and the others."""
    values, unfit = table.empty.copy(), list[Unfit]()
    for name, text in json.loads(samples or "{}").items():
        value = float(text)
        if name not in table.slots:
            unfit.append(Unfit(name, None, value, Reason.UNPAIRED, UNDECLARED))
            continue
        column = table.columns[table.slots[name]]
        reason = None if column.special else column.check(value)
        if reason is None:
            values[column.slot] = value
        else:
            unfit.append(Unfit(name, column, value, reason, None))
    return values, unfit


def undeclared(samples: str) -> Iterator[Unfit]:
    """Read samples of a table that is no longer declared."""
    for name, text in json.loads(samples).items():
        yield Unfit(name, None, float(text), Reason.UNPAIRED, UNDECLARED)


def breaks(unfit: Iterable[Unfit]) -> bool:
    """Return whether a required sample is among those that do not fit."""
    return any(one.column is not None and one.column.required for one in unfit)


def place_of(table: Table, record: Record) -> Place:
    """Return the place that identifies a row in all tables."""
    return table.name, record[0], record[1]


def by_place(rows: Iterable[Sequence[Any]]) -> Found:
    """Index the rows that a statement returns by their places."""
    return {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}


async def meet(connection: Connection, incomplete: Records, *, each: bool = False) -> Met:
    """Merge incomplete rows into `pending_rows`; take out those that become complete.

    Args:
        connection: Must be in a transaction.
        incomplete: The rows of each table.
        each: Whether the database may refuse some.
    """
    sent = {
        place_of(table, record): (table, record)
        for table, records in incomplete.items()
        for record in records
    }
    entries = [(*place, to_json(table, record[2])) for place, (table, record) in sent.items()]
    refused: dict[Place, str] = {}
    if each:
        failures = await run_for_each(connection, "pending_rows", UPSERT_EACH, entries)
        refused = {entries[place][:3]: failure.message for place, failure in failures.items()}
        kept = [place for place in sent if place not in refused]
        found = await find_pending(connection, kept)
    else:
        found = by_place(await connection.fetch(UPSERT, *zip(*entries, strict=True)))
    met = Met(defaultdict(list), defaultdict(list), defaultdict(dict), [], Fates(), {})
    for place, (table, record) in sent.items():
        if place in found:
            take_in(met, table, record, *found[place])
        else:
            met.rejected.extend(samples_of(record, Reason.REFUSED, refused.get(place, DISCARDED)))
            met.broken[place] = record[3]
    done = [place_of(table, record) for table, some in met.completed.items() for record in some]
    await delete(connection, done)
    return met


def take_in(met: Met, table: Table, record: Record, now: str, before: str | None) -> None:
    """Record the outcome of an incomplete row, by its waiting samples now and before."""
    values, unfit = from_json(table, now)
    there = readings(table, from_json(table, before)[0])
    for one in unfit:
        if one.column is not None:
            # It came first, and no value equals it.
            there[one.column.slot] = one
    verdict = judge(table, record[2], there)
    met.fates[table.name, Fate.DUPLICATE] += verdict.repeated
    met.rejected.extend(conflicts_of(record, verdict.contradicting))
    lost = [value if values[slot] is None else None for slot, value in enumerate(verdict.missing)]
    met.rejected.extend(samples_of((*KEY(record), lost, record[3]), Reason.REFUSED, DISCARDED))
    place = place_of(table, record)
    if breaks(unfit):
        met.broken[place] = record[3]
    elif table.lacks(values):
        met.waiting[table].append((*KEY(record), values, record[3]))
        met.unfit[table][KEY(record)] = unfit
    else:
        met.rejected.extend(unfit_samples(place, unfit))
        met.completed[table].append((*KEY(record), values, record[3]))


def columns_of(places: Sequence[Place]) -> Sequence[Sequence[Any]]:
    """Return places as the three columns that statements take."""
    return tuple(zip(*places, strict=True)) or ((), (), ())


async def find_pending(connection: Connection, places: Sequence[Place]) -> Found:
    """Return the rows of `pending_rows` at these places."""
    if not places:
        return {}
    find = distributed.FIND if await is_distributed(connection) else FIND
    return by_place(await connection.fetch(find, *columns_of(places)))


async def delete(connection: Connection, places: Sequence[Place]) -> None:
    """Delete rows that this transaction has locked."""
    if places:
        delete_ = distributed.DELETE if await is_distributed(connection) else DELETE
        await connection.execute(delete_, *columns_of(places))


async def take_waiting(connection: Connection, places: Sequence[Place]) -> dict[Place, str]:
    """Take out and return the waiting samples of rows that no other transaction has locked."""
    if not places:
        return {}
    take = distributed.TAKE if await is_distributed(connection) else TAKE
    taken = await connection.fetch(take, *columns_of(places))
    return {tuple(place): samples for *place, samples in taken}


def places_of(keys: Iterable[Key]) -> dict[Place, Source]:
    """Return the places of keys; keys whose source has no id are left out."""
    return {
        (source.table.name, to_microseconds(timestamp), source.id): source
        for timestamp, source in keys
        if source.id is not None
    }


def unfit_samples(place: Place, unfit: Iterable[Unfit]) -> Iterable[RejectedRecord]:
    """Turn samples that do not fit into rejected ones.

    Those of columns that are no longer declared have the column's name as metric.
    """
    name, created_at, source_id = place
    for one in unfit:
        yield RejectedRecord(
            source_id=source_id,
            digest=None,
            labels=None,
            metric=one.name if one.column is None else one.column.metric,
            timestamp=to_milliseconds(created_at),
            value=one.value,
            reason=one.reason,
            detail=one.detail,
            table=name,
            column=one.name,
        )
