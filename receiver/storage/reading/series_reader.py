"""Streams the samples of series from the database, without ever holding all of them in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import numpy as np

from receiver.errors import DatabaseUnavailableError
from receiver.protocol.queries import Query
from receiver.protocol.read_samples import Samples
from receiver.rows.columns import END_TIMESTAMP, MIN_TIMESTAMP, POSTGRES_EPOCH_MS
from receiver.storage.connection.database import Connection
from receiver.storage.reading.series_values import Form

# A row of a binary COPY: the number of its fields, and each field after its length.
ROW: Final = (
    ("fields", ">i2"),
    ("place_length", ">i4"),
    ("place", ">i4"),
    ("time_length", ">i4"),
    ("time", ">i8"),
    ("value_length", ">i4"),
)
SHAPE: Final = {"fields": 3, "place_length": 4, "time_length": 8}
HEADER_SIZE: Final = 19
TRAILER: Final = b"\xff\xff"
AT_ONCE: Final = 1024 * 1024
"""Bytes of rows that are encoded together: 30,000 samples."""

Take: TypeAlias = Callable[[Samples], Awaitable[None]]


class Rows:
    """Turns a binary COPY of places, times and values into samples.

    Args:
        query: The query, with its range of times.
        form: The format in which values are sent.
        first: The index of the series whose place is 1.
    """

    def __init__(self, query: Query, form: Form, first: int) -> None:
        self._query = query
        self._form = form
        self._row = np.dtype([*ROW, ("value", form.sent)])
        self._shape = {**SHAPE, "value_length": self._row["value"].itemsize}
        self._first = first - 1
        self._data = bytearray()
        self._skipped = False
        self._last = (-1, 0)
        self.count = 0

    def add(self, data: bytes) -> bool:
        """Append the next piece; return whether there is enough to be read."""
        self._data += data
        return len(self._data) >= AT_ONCE

    def read(self) -> Samples:
        """Read all complete rows.

        Raises:
            DatabaseUnavailableError: the rows are not what was asked for.
        """
        if not self._skipped:
            del self._data[:HEADER_SIZE]
            self._skipped = True
        count = len(self._data) // self._row.itemsize
        rows = np.frombuffer(bytes(self._data[: count * self._row.itemsize]), self._row)
        del self._data[: count * self._row.itemsize]
        self.count += count
        places = rows["place"].astype(np.int64)
        if any((rows[name] != number).any() for name, number in self._shape.items()) or (
            (np.diff(places) < 0).any()
        ):
            raise DatabaseUnavailableError("the database sent rows that were not requested")
        return self._clean(places + self._first, rows["time"].astype(np.int64), rows["value"])

    def _clean(self, places: np.ndarray, times: np.ndarray, values: np.ndarray) -> Samples:
        """Leave out rows outside of the range, and all but the first row of a millisecond."""
        wanted = (times >= MIN_TIMESTAMP) & (times < END_TIMESTAMP)
        times = times // 1000 + POSTGRES_EPOCH_MS
        wanted &= (times >= self._query.start) & (times <= self._query.end)
        last_place, last_time = self._last
        if len(times):
            self._last = int(places[-1]), int(times[-1])
        wanted &= (np.diff(places, prepend=last_place) != 0) | (
            np.diff(times, prepend=last_time) != 0
        )
        return Samples(places[wanted], times[wanted], self._form.read(values[wanted]))

    def end(self, status: str) -> Samples:
        """Read the remaining rows.

        Raises:
            DatabaseUnavailableError: the number of rows is not what the database sent.
        """
        if self._data[-len(TRAILER) :] == TRAILER:
            del self._data[-len(TRAILER) :]
        samples = self.read()
        if self._data or status != f"COPY {self.count}":
            raise DatabaseUnavailableError(
                f"{self.count} rows arrived where the database sent {status.removeprefix('COPY ')}"
            )
        return samples


async def read_samples(connection: Connection, statement: str, rows: Rows, take: Take) -> None:
    """Run a statement of `select_samples`, and pass its samples to `take` piece by piece.

    Args:
        connection: Must be in a transaction. While `take` runs, the database waits.
        statement: The statement to run.
        rows: Reads the rows.
        take: Takes the samples; an exception that it raises ends the connection.

    Raises:
        ReceiverError: as `translated` does; whatever `take` raises.
    """
    failures: list[BaseException] = []

    async def output(data: bytes) -> None:
        if rows.add(data):
            try:
                await take(rows.read())
            except BaseException as error:
                failures.append(error)
                # Otherwise the driver may wait forever for the end of a COPY that has already
                # ended.
                connection.terminate()
                raise

    try:
        status = await connection.copy_from_query(statement, output=output, format="binary")
    except Exception:
        if failures:
            raise failures[0] from None
        raise
    await take(rows.end(status))
