"""Incomplete rows in the database: where samples wait for the others of their row."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from receiver.rows.model import Key, Labels, Source
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Catalogue, Column, Table, Values
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import FOLLOW_KEY, Connection, Database
from receiver.storage.connection.locks import TRY_MAINTENANCE_LOCK
from receiver.storage.connection.places import literal, quote
from receiver.storage.writing import distributed
from receiver.storage.writing.codes import Ensure, ensure_codes, make_codes
from receiver.storage.writing.each import FEW_CONNECTIONS, REFUSALS, TIME, run_for_each
from receiver.storage.writing.inserting import (
    Written,
    add,
    add_samples,
    find_rows,
    insert_each,
    insert_rows,
)
from receiver.storage.writing.judging import judge, readings
from receiver.storage.writing.labels import from_json as read_labels
from receiver.storage.writing.records import (
    KEY,
    ORDER,
    Record,
    Records,
    RejectedRecord,
    conflicts_of,
    samples_of,
    to_microseconds,
    to_milliseconds,
)
from receiver.storage.writing.registry import DISCARDED
from receiver.storage.writing.rejecting import reject_samples

MOST: Final = 5_000
"""Maximum number of incomplete rows that maintenance settles in one transaction."""
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

# The rejected samples of rows: the row's place in the list, metric, value, reason.
FIND_REJECTED: Final = """
SELECT wanted.place - 1, r.metric, r.value, r.reason
FROM unnest($1::int[], $2::bigint[]) WITH ORDINALITY AS wanted (source_id, timestamp_ms, place),
LATERAL (
    SELECT metric, value, reason FROM rejected_samples r
    WHERE r.source_id = wanted.source_id AND r.metric = ANY($3::text[])
      AND r.timestamp_ms = wanted.timestamp_ms AND r.table_name = $4
    OFFSET 0
) AS r
"""

FIND_LABELS: Final = "SELECT id, labels::text FROM sources WHERE id = ANY($1::int[])"

WAITING_RANGE: Final = """
SELECT min(created_at), max(created_at) FROM pending_rows WHERE table_name = $1
"""

# Takes out at most $2 rows that have waited longer than $3 for tables other than the declared ones
# ($1).
TAKE_UNDECLARED: Final = """
DELETE FROM pending_rows WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pending_rows
    WHERE table_name <> ALL($1::text[]) AND arrived_at < now() - $3::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED
))
RETURNING table_name, created_at, source_id, samples
"""


def find_waiting(table: Table, *, distributed: bool = False) -> str:
    """Write the statement that finds incomplete rows with nothing left to wait for.

    These are rows that have waited longer than $1, or that were stored without these samples, or of
    which a required sample was rejected, in a transaction that was invisible to the one that
    brought them. The statement returns at most $2 rows, and none that another transaction has
    locked, which will complete or settle them itself. $3 and $4 bound `created_at`, $5 are the
    required columns' metrics. The rows are locked, unless Citus distributes the table: it cannot
    lock rows of several shards in advance.
    """
    # Not `=`, which would make the order redundant: then, where statistics say that the table is
    # nearly empty, all rows of a time may be read by the other index. Citus requires `=`.
    own = "=" if distributed else ">= p.source_id AND t.source_id <="
    part = "r.shard_key = p.source_id AND" if distributed else ""
    breaking = ", ".join(map(literal, table.breaking))
    return f"""
SELECT p.created_at, p.source_id, p.samples FROM pending_rows p
WHERE p.table_name = {literal(table.name)} AND (
    p.arrived_at < now() - $1::interval
    OR (
        SELECT true FROM {quote(table.name)} t
        WHERE t.source_id {own} p.source_id
          AND t.created_at = p.created_at AND t.created_at BETWEEN $3 AND $4
        ORDER BY t.source_id LIMIT 1
    )
    OR EXISTS (
        SELECT 1 FROM rejected_samples r
        WHERE {part} r.source_id = p.source_id AND r.metric = ANY($5::text[])
          AND r.timestamp_ms = (EXTRACT(EPOCH FROM p.created_at) * 1000)::bigint
          AND r.table_name = p.table_name AND r.reason IN ({breaking})
    )
)
ORDER BY p.created_at, p.source_id
LIMIT $2
{"" if distributed else "FOR UPDATE SKIP LOCKED"}
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


Misfits: TypeAlias = Mapping[tuple[int, int], Sequence[Unfit]]
"""The unfit samples of rows, by key."""


class Met(NamedTuple):
    """The outcomes of incomplete rows that were merged into `pending_rows`."""

    completed: Records
    """Rows that are complete, and no longer pending."""
    waiting: Records
    """Rows that wait, with all their waiting samples that fit."""
    unfit: dict[Table, dict[tuple[int, int], Sequence[Unfit]]]
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


async def settle(  # noqa: PLR0913  at once and overdue
    connection: Connection,
    table: Table,
    records: Sequence[Record],
    unfit: Misfits,
    *,
    ensure: Ensure,
    otherwise: Reason | None = None,
    each: bool = False,
) -> Written:
    """Take incomplete rows with nothing left to wait for out of `pending_rows`.

    These are rows that are stored already, or of which a required sample was rejected. Overdue rows
    that lack nothing, since the declaration has changed, are stored.

    Args:
        connection: Must be in a transaction that has locked the rows.
        table: The table of the rows.
        records: The rows with all samples that wait and fit, sorted by `ORDER`.
        unfit: The samples that do not fit.
        ensure: Registers the codes of samples that waited.
        otherwise: Why samples of incomplete rows are rejected; None: they go on waiting.
        each: Whether the database may refuse some.
    """
    there = await find_rows(connection, table, records)
    before = await find_rejected(connection, table, records)
    metrics = {column.metric for column in table.columns if column.required}
    fates, rejected = Fates(), list[RejectedRecord]()
    done: list[Place] = []
    kept: list[Record] = []
    for place, record in enumerate(records):
        earlier, others = before.get(place, []), unfit.get(KEY(record), [])
        broken = breaks(others) or any(
            metric in metrics and why in table.breaking for metric, _, why in earlier
        )
        is_stored = KEY(record) in there
        if otherwise is None and not (broken or is_stored):
            continue
        done.append(place_of(table, record))
        rejected += unfit_samples(done[-1], others)
        values, repeated = without_rejected(table, record[2], earlier)
        fates[table.name, Fate.DUPLICATE] += repeated
        rest: Record = (*KEY(record), values, record[3])
        if not is_stored and (broken or table.lacks(values)):
            reason = Reason.WITH_OTHER if broken else otherwise or Reason.UNPAIRED
            rejected += samples_of(rest, reason)
        elif not is_stored and record[3].misfit:
            rejected += samples_of(rest, Reason.LABEL, record[3].misfit)
        else:
            kept.append(rest)
    await delete(connection, done)
    waited = {table: kept}
    rejected += await ensure(connection, waited, each=each)
    written = await add_samples(connection, table, waited[table], there, each=each)
    new = [record for record in waited[table] if KEY(record) not in there]
    if new:
        insert = insert_each if each else insert_rows
        written = add(written, await insert(connection, table, new))
    return add(Written(fates, rejected), written)


def without_rejected(
    table: Table, values: Values, rejected: Sequence[tuple[str, float, str]]
) -> tuple[Values, int]:
    """Return the samples that were not rejected before, and how many were."""
    known = {(metric, value) for metric, value, _ in rejected}
    rest, repeated = table.empty.copy(), 0
    for column, value in table.samples(values):
        if (column.metric, value) in known:
            repeated += 1
        else:
            rest[column.slot] = value
    return rest, repeated


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


async def find_rejected(
    connection: Connection, table: Table, records: Sequence[Record]
) -> dict[int, list[tuple[str, float, str]]]:
    """Return which samples of rows were rejected, by the row's place: metric, value, reason."""
    found: defaultdict[int, list[tuple[str, float, str]]] = defaultdict(list)
    if records:
        metrics = [column.metric for column in table.columns]
        source_ids = [record[1] for record in records]
        times = [to_milliseconds(record[0]) for record in records]
        find = distributed.FIND_REJECTED if await is_distributed(connection) else FIND_REJECTED
        for place, metric, value, reason in await connection.fetch(
            find, source_ids, times, metrics, table.name
        ):
            found[place].append((metric, value, reason))
    return found


async def settle_waiting(
    database: Database, catalogue: Catalogue, pair_timeout: timedelta
) -> Fates:
    """Take out incomplete rows that have waited too long, or have nothing left to wait for.

    Only one replica does this at a time; the others return at once.

    Args:
        database: The database of the rows.
        catalogue: The tables.
        pair_timeout: How long samples of tables that are no longer declared wait.

    Returns:
        The outcomes of the samples.

    Raises:
        ReceiverError: as `database.translated` does.
    """
    fates = Fates()
    ensure = partial(ensure_codes, make_codes(database, catalogue))
    steps = [partial(settle_some, database, table, ensure) for table in catalogue.tables]
    steps.append(partial(reject_undeclared, database, catalogue, pair_timeout))
    for step in steps:
        total = MOST
        while total >= MOST:
            try:
                total, counts = await step(each=False)
            except REFUSALS:
                total, counts = await step(each=True)
            fates += counts
    return fates


async def settle_some(
    database: Database, table: Table, ensure: Ensure, *, each: bool
) -> tuple[int, Fates]:
    """Settle some rows of a table; return how many, and the outcomes of their samples."""
    metrics = [column.metric for column in table.columns if column.required]
    async with database.transaction(FEW_CONNECTIONS if each else "") as connection:
        if not await connection.fetchval(TRY_MAINTENANCE_LOCK):
            return 0, Fates()
        first, last = await connection.fetchrow(WAITING_RANGE, table.name)
        if first is None:
            return 0, Fates()
        if await is_distributed(connection):
            found = await take_settled(connection, table, (first, last), metrics)
        else:
            await connection.execute(FOLLOW_KEY)
            found = await connection.fetch(
                find_waiting(table), table.pair_timeout, MOST, first, last, metrics
            )
        sources = await find_sources(connection, table, {row[1] for row in found})
        records: list[Record] = []
        unfit: dict[tuple[int, int], Sequence[Unfit]] = {}
        for created_at, source_id, samples in found:
            values, unfit[created_at, source_id] = from_json(table, samples)
            records.append((created_at, source_id, values, sources[source_id]))
        records.sort(key=ORDER)
        settled = await settle(
            connection,
            table,
            records,
            unfit,
            ensure=ensure,
            otherwise=Reason.UNPAIRED,
            each=each,
        )
        fates = await reject_samples(connection, settled.rejected, each=each)
    return len(found), settled.fates + fates


async def find_sources(
    connection: Connection, table: Table, ids: Collection[int]
) -> dict[int, Source]:
    """Return the sources of a table's rows by id, with labels if the table has label columns."""
    labels = dict[int, Labels]()
    if table.labels:
        rows = await connection.fetch(FIND_LABELS, list(ids))
        labels = {number: read_labels(text) for number, text in rows}
    sources: dict[int, Source] = {}
    for number in ids:
        sources[number] = Source(table, labels.get(number, ()))
        sources[number].id = number
    return sources


async def take_settled(
    connection: Connection, table: Table, bounds: tuple[int, int], metrics: Sequence[str]
) -> list[Any]:
    """Take out rows that `find_waiting` finds, except those that were changed since."""
    found = await connection.fetch(
        find_waiting(table, distributed=True), table.pair_timeout, MOST, *bounds, metrics
    )
    if not found:
        return []
    created_at, source_ids, samples = zip(*found, strict=True)
    names = [table.name] * len(found)
    taken: list[Any] = await connection.fetch(
        distributed.TAKE_UNCHANGED, names, created_at, source_ids, samples
    )
    return taken


async def reject_undeclared(
    database: Database, catalogue: Catalogue, pair_timeout: timedelta, *, each: bool
) -> tuple[int, Fates]:
    """Reject samples that wait for rows of tables that are no longer declared."""
    async with database.transaction(FEW_CONNECTIONS if each else "") as connection:
        if not await connection.fetchval(TRY_MAINTENANCE_LOCK):
            return 0, Fates()
        take = distributed.TAKE_UNDECLARED if await is_distributed(connection) else TAKE_UNDECLARED
        found = await connection.fetch(take, list(catalogue.by_name), MOST, pair_timeout)
        rejected = [
            sample
            for *place, samples in found
            for sample in unfit_samples(tuple(place), undeclared(samples))
        ]
        return len(found), await reject_samples(connection, rejected, each=each)
