"""Withdraws the rejection of samples whose value their row has.

A batch takes the first of several values, and an incomplete row keeps the first that came. If the
row is stored with another one of them, the sample with that value is no conflict. A sample that is
too old when it comes again may have been stored the first time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Table
from receiver.storage.connection.connecting import is_distributed
from receiver.storage.connection.database import Connection
from receiver.storage.writing import distributed
from receiver.storage.writing.inserting import find_rows
from receiver.storage.writing.judging import readings
from receiver.storage.writing.pending import find_pending, from_json
from receiver.storage.writing.records import (
    RejectedRecord,
    RowKey,
    to_microseconds,
    to_milliseconds,
)

# The rejected samples of rows: the row's place in the list, then the columns of `Earlier`.
FIND_REJECTED: Final = """
SELECT wanted.place - 1, r.metric, r.value, r.reason, r.id
FROM unnest($1::int[], $2::bigint[]) WITH ORDINALITY AS wanted (source_id, timestamp_ms, place),
LATERAL (
    SELECT metric, value, reason, id FROM rejected_samples r
    WHERE r.source_id = wanted.source_id AND r.metric = ANY($3::text[])
      AND r.timestamp_ms = wanted.timestamp_ms AND r.table_name = $4
    OFFSET 0
) AS r
"""

DOUBTFUL: Final = (Reason.CONFLICT, Reason.TOO_OLD)
"""Reasons for which a sample may be rejected although its row has its value."""

DELETE_REJECTED: Final = "DELETE FROM rejected_samples WHERE id = ANY($1::bigint[])"


class Earlier(NamedTuple):
    """A sample that was rejected in an earlier transaction."""

    metric: str
    value: float
    reason: str
    id: int


async def take_back(
    connection: Connection, tables: Mapping[str, Table], rejected: Sequence[RejectedRecord]
) -> tuple[list[RejectedRecord], Fates]:
    """Compare doubtful samples with the rows once more; forget those whose value the row has.

    The conflicts that were recorded for the same rows earlier are compared, too.

    Args:
        connection: Must be in a transaction that has written everything else.
        tables: The tables, by name.
        rejected: The samples that the transaction rejects.

    Returns:
        The samples that stay rejected, and the outcomes of the others.
    """
    doubtful: defaultdict[str, dict[int, RowKey]] = defaultdict(dict)
    for place, one in enumerate(rejected):
        if one.reason in DOUBTFUL and one.source_id is not None:
            key = to_microseconds(one.timestamp), one.source_id
            doubtful[one.table][place] = key
    fates, repeated = Fates(), set[int]()
    for name, keys in doubtful.items():
        table = tables[name]
        rows = await find_values(connection, table, sorted({*keys.values()}))
        for place, key in keys.items():
            column = table.columns[table.slots[rejected[place].column]]
            if key in rows and column.holds(rows[key][column.slot], rejected[place].value):
                repeated.add(place)
        fates[name, Fate.DUPLICATE] += len(repeated.intersection(keys))
        await forget(connection, table, rows)
    return [one for place, one in enumerate(rejected) if place not in repeated], fates


async def find_values(
    connection: Connection, table: Table, keys: Sequence[RowKey]
) -> dict[RowKey, Sequence[Any]]:
    """Return the values of rows, stored or incomplete, by key."""
    rows = await find_rows(connection, table, keys)
    others = [(table.name, *key) for key in keys if key not in rows]
    for (_, *key), (samples, _) in (await find_pending(connection, others)).items():
        rows[key[0], key[1]] = readings(table, from_json(table, samples)[0])
    return rows


async def forget(
    connection: Connection, table: Table, rows: Mapping[RowKey, Sequence[Any]]
) -> None:
    """Delete the recorded conflicts whose value the row has."""
    columns = {column.metric: column for column in table.columns}
    outdated: list[int] = []
    for key, earlier in (await find_rejected(connection, table, list(rows))).items():
        for metric, value, reason, number in earlier:
            column = columns[metric]
            if reason == Reason.CONFLICT and column.holds(rows[key][column.slot], value):
                outdated.append(number)
    if outdated:
        await connection.execute(DELETE_REJECTED, outdated)


async def find_rejected(
    connection: Connection, table: Table, keys: Sequence[RowKey]
) -> dict[RowKey, list[Earlier]]:
    """Return which samples of rows were rejected earlier, by key."""
    if not keys:
        return {}
    found: defaultdict[RowKey, list[Earlier]] = defaultdict(list)
    metrics = [column.metric for column in table.columns]
    source_ids = [source_id for _, source_id in keys]
    times = [to_milliseconds(created_at) for created_at, _ in keys]
    find = distributed.FIND_REJECTED if await is_distributed(connection) else FIND_REJECTED
    for place, *earlier in await connection.fetch(find, source_ids, times, metrics, table.name):
        found[keys[place]].append(Earlier(*earlier))
    return found
