"""Inserts complete rows into the declared tables, once for each source and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from receiver.errors import (
    ConflictingTransactionError,
    DuplicateRowError,
    StatementRefusedError,
)
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Table
from receiver.storage.connection.connecting import Session, is_distributed
from receiver.storage.connection.database import Connection, describe
from receiver.storage.connection.places import quote
from receiver.storage.writing.checks import Entries, run_checked
from receiver.storage.writing.each import UNIQUE_VIOLATION, run_for_each
from receiver.storage.writing.encoding import to_columns, to_entries
from receiver.storage.writing.judging import judge
from receiver.storage.writing.records import (
    KEY,
    Record,
    RejectedRecord,
    RowKey,
    conflicts_of,
    count_samples,
    keys_of,
    samples_of,
)
from receiver.storage.writing.registry import DISCARDED
from receiver.storage.writing.statements import statements_of

if TYPE_CHECKING:
    from receiver.storage.writing.copying import RowArrays

FEW: Final = 2
"""Maximum combinations of times and sources per wanted row for which all of them are read."""


class Written(NamedTuple):
    """The outcomes of the samples of rows."""

    fates: Fates
    rejected: list[RejectedRecord]
    """Samples that contradict a stored row, or that the database refuses."""


async def copy_rows(connection: Session, rows: RowArrays, first: str = "") -> int:
    """Store rows of which none is stored yet; return how many were stored, as triggers may discard.

    Args:
        connection: From the pool.
        rows: Rows of one table.
        first: Statements that run before, as `Session.copy` takes them.

    Raises:
        DuplicateRowError: a row exists, or Citus does not pass on the error of a node.
    """
    # Imported here, as numpy takes 10 MiB, which a receiver that has stored nothing yet saves.
    from receiver.storage.writing.copying import encode_copy  # noqa: PLC0415

    try:
        return await connection.copy(f"{first};{statements_of(rows.table).copy}", encode_copy(rows))
    except asyncpg.InternalServerError as error:
        raise DuplicateRowError(describe(error)) from error


async def insert_rows(connection: Connection, table: Table, records: list[Record]) -> Written:
    """Store rows of which some may exist; add the samples that existing rows lack.

    Args:
        connection: Must be in a transaction.
        table: The table.
        records: The rows, sorted by `ORDER`, no two with the same key.
    """
    statements = statements_of(table)
    keys = await connection.fetch(statements.insert, *to_columns(table, records))
    # A row that a trigger has given another key is stored, too.
    if len(keys) == len(records):
        return stored(table, records)
    inserted = {tuple(key) for key in keys}
    others = [record for record in records if KEY(record) not in inserted]
    there = await find_rows(connection, table, keys_of(others))
    missing = [record for record in others if KEY(record) not in there]
    written = await add_samples(connection, table, others, there)
    written = add(written, stored(table, [r for r in records if KEY(r) in inserted]))
    if not missing:
        return written
    # TimescaleDB 2.16.0 to 2.18.0 skips the rows after one that a compressed chunk holds
    # (timescaledb #7673). If all are missing, that is not the reason: a trigger has discarded them,
    # or given them other keys.
    again = insert_rows if len(missing) < len(records) else insert_each
    return add(written, await again(connection, table, missing))


async def insert_each(connection: Connection, table: Table, records: list[Record]) -> Written:
    """Store rows of which the database may refuse some.

    The arguments are those of `insert_rows`.

    Raises:
        StatementRefusedError: it refuses all rows, for a reason other than their data.
    """
    there = await find_rows(connection, table, keys_of(records))
    if len(there) == len(records):
        return await add_samples(connection, table, records, there, each=True)
    # Every existing row would fail. One of them is tried to show that the statement itself works.
    example = next(iter(there), None)
    tried = [record for record in records if KEY(record) not in there or KEY(record) == example]
    if example is not None:
        del there[example]
    written = await add_samples(connection, table, records, there, each=True)
    return add(written, await try_each(connection, table, tried))


async def try_each(connection: Connection, table: Table, records: list[Record]) -> Written:
    """Store rows of which most do not exist yet, and the database may refuse some.

    The arguments are those of `insert_rows`.

    Raises:
        StatementRefusedError: it refuses all rows, for a reason other than their data.
    """
    statements = statements_of(table)
    failures = await run_checked(
        connection,
        Entries(table.name, statements.columns, statements.types, statements.read_entries),
        statements.insert_each,
        to_entries(table, records),
        code_tables(table),
    )
    key = await connection.fetchval(statements.find_key)
    there = await find_rows(connection, table, keys_of(records))
    fresh: list[Record] = []
    others: list[Record] = []
    refused: list[tuple[Record, str]] = []
    for place, record in enumerate(records):
        failure = failures.get(place)
        # The constraint of a chunk has the chunk's number before its name. A row that exists under
        # another key was given that key by a trigger.
        repeats = (
            failure is not None
            and failure.code == UNIQUE_VIOLATION
            and failure.constraint.endswith(key)
        )
        if failure is None and KEY(record) in there:
            fresh.append(record)
        elif KEY(record) in there or repeats:
            others.append(record)
        else:
            refused.append((record, failure.message if failure else DISCARDED))
    written = add(stored(table, fresh), await refuse(connection, table, refused))
    return add(written, await add_samples(connection, table, others, there, each=True))


async def refuse(
    connection: Connection, table: Table, refused: Sequence[tuple[Record, str]]
) -> Written:
    """Reject refused rows; store those that are refused only for an optional sample without it.

    Args:
        connection: Must be in a transaction.
        table: The table.
        refused: The rows, each with the database's message.

    Raises:
        ConflictingTransactionError: as `run_for_each` does.
    """
    rejected: list[RejectedRecord] = []
    bare: dict[RowKey, tuple[Record, str]] = {}
    optional: list[Record] = []
    for record, message in refused:
        required, rest = table.split(record[2])
        if rest == table.empty:
            rejected += samples_of(record, Reason.REFUSED, message)
        else:
            bare[KEY(record)] = (*KEY(record), required, record[3]), message
            optional.append((*KEY(record), rest, record[3]))
    written = Written(Fates(), rejected)
    if not bare:
        return written
    try:
        written = add(written, await try_each(connection, table, [row for row, _ in bare.values()]))
    except StatementRefusedError:
        # Rows that were not refused show that the statement itself works.
        for record, message in bare.values():
            written.rejected.extend(samples_of(record, Reason.REFUSED, message))
    there = await find_rows(connection, table, list(bare))
    for record in optional:
        if KEY(record) not in there:
            written.rejected.extend(samples_of(record, Reason.WITH_OTHER))
    return add(written, await add_samples(connection, table, optional, there, each=True))


def code_tables(table: Table) -> list[str]:
    """Return the tables of codes that rows of a table refer to."""
    return [column.codes for column in table.codes]


def stored(table: Table, records: Sequence[Record]) -> Written:
    """Count all samples of rows as stored."""
    return samples_stored(table, count_samples(table, records))


def samples_stored(table: Table, count: int) -> Written:
    """Count samples of a table as stored."""
    return Written(Fates({(table.name, Fate.STORED): count}), [])


def add(one: Written, other: Written) -> Written:
    """Merge two results."""
    fates = Fates(one.fates)
    # Not `+`, which drops negative counts.
    fates.update(other.fates)
    return Written(fates, one.rejected + other.rejected)


async def find_rows(
    connection: Connection, table: Table, keys: Sequence[RowKey]
) -> dict[RowKey, Sequence[Any]]:
    """Return the values of the stored rows that have these keys, by key.

    Args:
        connection: Must be in a transaction.
        table: The table.
        keys: Keys of rows.
    """
    if not keys:
        return {}
    created_at, source_ids = zip(*keys, strict=True)
    statements = statements_of(table)
    times, sources = list({*created_at}), list({*source_ids})
    if await is_distributed(connection):
        # Usually every source has a row at each time.
        if len(times) * len(sources) <= FEW * len(keys):
            found = await connection.fetch(statements.find_all_distributed, times, sources)
            wanted = {*keys}
            return {key: tuple(row)[2:] for row in found if (key := (row[0], row[1])) in wanted}
        find = statements.find_distributed
    else:
        find = statements.find
    bounds = min(times), max(times)
    found = await connection.fetch(find, created_at, source_ids, *bounds, sources)
    return {(row[0], row[1]): tuple(row)[2:] for row in found}


async def add_samples(
    connection: Connection,
    table: Table,
    records: Sequence[Record],
    there: Mapping[RowKey, Sequence[Any]],
    *,
    each: bool = False,
) -> Written:
    """Add the samples that stored rows lack; existing values stay.

    Args:
        connection: Must be in a transaction.
        table: The table.
        records: Rows, complete or not, sorted by `ORDER`.
        there: The values of stored rows, by key; records without one are skipped.
        each: Whether the database may refuse some.
    """
    fates, rejected = Fates(), list[RejectedRecord]()
    lacking: list[Record] = []
    for record in records:
        if KEY(record) not in there:
            continue
        verdict = judge(table, record[2], there[KEY(record)])
        fates[table.name, Fate.DUPLICATE] += verdict.repeated
        rejected += conflicts_of(record, verdict.contradicting)
        if any(value is not None for value in verdict.missing):
            lacking.append((*KEY(record), verdict.missing, record[3]))
    written = Written(fates, rejected)
    for some in by_column(table, lacking) if each else [lacking]:
        if some:
            written = add(written, await fill(connection, table, some, each=each))
    return written


def by_column(table: Table, records: Sequence[Record]) -> Iterator[list[Record]]:
    """Yield the samples of each column as rows with no others, as these may be refused."""
    for column in table.columns:
        alone: list[Record] = []
        for record in records:
            if (value := record[2][column.slot]) is not None:
                values = table.empty.copy()
                values[column.slot] = value
                alone.append((*KEY(record), values, record[3]))
        yield alone


async def require_rows(connection: Connection, table: Table, keys: Sequence[RowKey]) -> None:
    """Check that rows are stored.

    Raises:
        ConflictingTransactionError: one is not.
    """
    if len(await find_rows(connection, table, keys)) < len(keys):
        raise ConflictingTransactionError("a row was deleted meanwhile")


async def fill(
    connection: Connection, table: Table, records: list[Record], *, each: bool
) -> Written:
    """Add samples to rows that lack them; if another transaction was faster, its value stays.

    Raises:
        ConflictingTransactionError: a row was deleted meanwhile; retry the transaction.
    """
    statements = statements_of(table)
    failures: Mapping[int, Any] = {}
    if each:
        entries = to_entries(table, records, labels=False)
        failures = await run_for_each(
            connection, quote(table.name), statements.fill_each, entries, code_tables(table)
        )
        now = await find_rows(connection, table, keys_of(records))
    else:
        columns = to_columns(table, records, labels=False)
        bounds = min(columns[0]), max(columns[0])
        filled = await connection.fetch(statements.fill, *columns, *bounds)
        now = {(row[0], row[1]): tuple(row)[2:] for row in filled}
        if len(filled) < len(records):
            # A trigger has discarded some updates, or somebody has deleted some rows.
            others = [record for record in records if KEY(record) not in now]
            await require_rows(connection, table, keys_of(others))
    fates, rejected = Fates(), list[RejectedRecord]()
    for place, record in enumerate(records):
        verdict = judge(table, record[2], now.get(KEY(record), table.empty))
        fates[table.name, Fate.STORED] += verdict.repeated
        rejected += conflicts_of(record, verdict.contradicting)
        message = failures[place].message if place in failures else DISCARDED
        rejected += samples_of((*KEY(record), verdict.missing, record[3]), Reason.REFUSED, message)
    return Written(fates, rejected)
