"""Settles incomplete rows: takes those out of `pending_rows` that have nothing left to wait for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from receiver.rows.model import Labels, Source
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Catalogue, Table, Values
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import FOLLOW_KEY, Connection, Database
from receiver.storage.connection.locks import TRY_MAINTENANCE_LOCK
from receiver.storage.connection.places import literal, quote
from receiver.storage.writing import distributed
from receiver.storage.writing.codes import Ensure, ensure_codes, make_codes
from receiver.storage.writing.contradicting import Earlier, find_rejected, take_back
from receiver.storage.writing.each import FEW_CONNECTIONS, REFUSALS
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
from receiver.storage.writing.pending import (
    Misfits,
    Place,
    Unfit,
    breaks,
    delete,
    from_json,
    place_of,
    take_waiting,
    undeclared,
    unfit_samples,
)
from receiver.storage.writing.records import (
    KEY,
    ORDER,
    Record,
    Records,
    RejectedRecord,
    RowKey,
    conflicts_of,
    keys_of,
    samples_of,
)
from receiver.storage.writing.rejecting import reject_samples

MOST: Final = 5_000
"""Maximum number of incomplete rows that maintenance settles in one transaction."""

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


async def take_samples(
    connection: Connection,
    rows: Records,
    broken: Mapping[Place, Source],
    ensure: Ensure,
    *,
    each: bool,
) -> Written:
    """Take waiting samples: reject those of broken rows, and add those that other rows lack.

    Args:
        connection: Must be in a transaction.
        rows: The rows to be stored; optional samples that waited are added to them.
        broken: Rows of which a required sample was rejected.
        ensure: Registers the codes of samples that waited.
        each: Whether the database may refuse some.
    """
    lacking = {
        place_of(table, record): (table, index)
        for table, records in rows.items()
        if table.optional
        for index, record in enumerate(records)
        if None in record[2]
    }
    fates, rejected = Fates(), list[RejectedRecord]()
    waiting: Records = {}
    for place, samples in (await take_waiting(connection, sorted({*broken, *lacking}))).items():
        if place not in lacking:
            source = broken[place]
            values, unfit = from_json(source.table, samples)
            rejected += samples_of((*place[1:], values, source), Reason.WITH_OTHER)
        else:
            table, index = lacking[place]
            created_at, source_id, values, source = rows[table][index]
            waited, unfit = from_json(table, samples)
            verdict = judge(table, waited, readings(table, values))
            fates[table.name, Fate.DUPLICATE] += verdict.repeated
            record: Record = (created_at, source_id, waited, source)
            rejected += conflicts_of(record, verdict.contradicting)
            waiting.setdefault(table, []).append((created_at, source_id, verdict.missing, source))
        rejected += unfit_samples(place, unfit)
    rejected += await ensure(connection, waiting, each=each)
    for table, records in waiting.items():
        for created_at, source_id, missing, source in records:
            _, index = lacking[table.name, created_at, source_id]
            values = rows[table][index][2]
            merged = [
                new if value is None else value for value, new in zip(values, missing, strict=True)
            ]
            rows[table][index] = (created_at, source_id, merged, source)
    return Written(fates, rejected)


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
    keys = keys_of(records)
    there = await find_rows(connection, table, keys)
    before = await find_rejected(connection, table, keys)
    metrics = {column.metric for column in table.columns if column.required}
    fates, rejected = Fates(), list[RejectedRecord]()
    done: list[Place] = []
    kept: list[Record] = []
    for record in records:
        earlier, others = before.get(KEY(record), []), unfit.get(KEY(record), [])
        broken = breaks(others) or any(
            one.metric in metrics and one.reason in table.breaking for one in earlier
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
    table: Table, values: Values, rejected: Sequence[Earlier]
) -> tuple[Values, int]:
    """Return the samples that were not rejected before, and how many were."""
    known = {(one.metric, one.value) for one in rejected}
    rest, repeated = table.empty.copy(), 0
    for column, value in table.samples(values):
        if (column.metric, value) in known:
            repeated += 1
        else:
            rest[column.slot] = value
    return rest, repeated


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
        unfit: dict[RowKey, Sequence[Unfit]] = {}
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
        rejected, repeated = await take_back(connection, {table.name: table}, settled.rejected)
        fates = await reject_samples(connection, rejected, each=each)
    return len(found), settled.fates + repeated + fates


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
