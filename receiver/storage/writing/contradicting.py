"""Finds rejected samples that only repeat the value that their row has.

A batch takes the first of several values that contradict each other, and rejects the others. If the
row is stored or waits already, its value may be one of those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from receiver.rows.model import Rejected
from receiver.rows.reasons import Fate, Fates, Reason
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection
from receiver.storage.writing.inserting import find_rows
from receiver.storage.writing.judging import judge, readings
from receiver.storage.writing.pending import find_pending, from_json, place_of
from receiver.storage.writing.records import KEY, Record, to_microseconds


async def take_back(
    connection: Connection, rejected: Sequence[Rejected]
) -> tuple[list[Rejected], Fates]:
    """Return the rejected samples except repeated ones, and the outcomes of these.

    Args:
        connection: Must be in a transaction that has written the other samples of the batch.
        rejected: The rejected samples of the batch.
    """
    contradicting: defaultdict[Table, dict[int, Record]] = defaultdict(dict)
    for place, (source, column, timestamp, value, reason, _) in enumerate(rejected):
        if reason is Reason.CONFLICT and source.id is not None:
            values = source.table.empty.copy()
            values[column.slot] = value
            record: Record = (to_microseconds(timestamp), source.id, values, source)
            contradicting[source.table][place] = record
    fates = Fates()
    repeated: set[int] = set()
    for table, records in contradicting.items():
        some = {KEY(record): record for record in records.values()}
        rows = await find_rows(connection, table, list(some.values()))
        others = [place_of(table, record) for key, record in some.items() if key not in rows]
        for (_, *key), (samples, _) in (await find_pending(connection, others)).items():
            rows[key[0], key[1]] = readings(table, from_json(table, samples)[0])
        for place, record in records.items():
            if judge(table, record[2], rows.get(KEY(record), table.empty)).repeated:
                repeated.add(place)
                fates[table.name, Fate.DUPLICATE] += 1
    return [sample for place, sample in enumerate(rejected) if place not in repeated], fates
