"""Recognizes incomplete rows that arrive again after they were completed."""

from __future__ import annotations

from receiver.rows.reasons import Fates
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection
from receiver.storage.writing.inserting import Written, add, add_samples, find_rows
from receiver.storage.writing.judging import judge
from receiver.storage.writing.records import KEY, Records, keys_of


class Repeats:
    """Recognizes samples of stored rows before they are written to `pending_rows`.

    That costs a query of the table, so it is done only while such samples arrive: a sender that
    gets no answer sends everything again, and each replica of a sender sends the same samples.
    """

    def __init__(self) -> None:
        self._expected: dict[str, bool] = {}

    def note(self, table: Table, repeated: int, total: int) -> None:
        """Record how many of the incomplete rows that arrived were stored already."""
        if total:
            self._expected[table.name] = 2 * repeated >= total

    async def take(self, connection: Connection, incomplete: Records) -> tuple[Written, Records]:
        """Judge rows whose stored rows lack none of their samples; return the other rows, too.

        Nothing is written or locked: a row whose stored row lacks a sample stays among the others.

        Args:
            connection: Must be in a transaction.
            incomplete: The rows of each table, sorted by `ORDER`.
        """
        written, others = Written(Fates(), []), Records()
        for table, records in incomplete.items():
            others[table] = records
            if not self._expected.get(table.name):
                continue
            there = await find_rows(connection, table, keys_of(records))
            there = {
                KEY(record): there[KEY(record)]
                for record in records
                if KEY(record) in there
                and judge(table, record[2], there[KEY(record)]).missing == table.empty
            }
            self.note(table, len(there), len(records))
            written = add(written, await add_samples(connection, table, records, there))
            others[table] = [record for record in records if KEY(record) not in there]
        return written, {table: records for table, records in others.items() if records}
