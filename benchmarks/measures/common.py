"""Arguments and helpers that the measures share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import bodies
from benchmarks.bodies import V1_HEADERS, message_v1
from benchmarks.load import Load, send
from benchmarks.subjects import Subject, receiver
from receiver.config.catalogue import built_in
from receiver.config.tables_reader import read_catalogue
from receiver.rows.tables import Catalogue, Table

SERIES: Final = 2_000
TARGETS: Final = 1_000


class Bench(NamedTuple):
    """The arguments of a measure."""

    name: str
    """Products behind the database, with their versions."""
    url: str
    """URL of a scratch database with the tables."""
    scale: float
    """Scale of the load: 1 takes minutes, 0.1 is for a trial."""
    tables_file: Path | None = None
    """The declaration of the tables; None: the built-in one."""

    @property
    def catalogue(self) -> Catalogue:
        """The tables that rows are stored in."""
        return built_in() if self.tables_file is None else read_catalogue(self.tables_file)

    @property
    def tables(self) -> Sequence[Table]:
        """All tables of the catalogue."""
        return self.catalogue.tables

    @contextmanager
    def receiver(self, *flags: str) -> Iterator[Subject]:
        """Run a receiver with these tables; yield it once it is ready."""
        declared = () if self.tables_file is None else (f"--tables-file={self.tables_file}",)
        with receiver(self.url, *declared, *flags) as subject:
            yield subject

    def scrapes(self, at_full_scale: int) -> int:
        """Return the scaled number of scrapes, at least 2."""
        return max(2, round(at_full_scale * self.scale))


class Clock:
    """Hands out scrapes that have not been stored yet."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> range:
        """Return the next `count` scrapes."""
        first, self._next = self._next, self._next + count
        return range(first, self._next)


def plural(count: int, thing: str) -> str:
    """Return a count with its noun, in the plural unless the count is 1."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


async def store(
    subject: Subject,
    tables: Sequence[Table],
    scrapes: range,
    connections: int,
    size: int = SERIES,
) -> tuple[float, Load]:
    """Send rows of all tables over HTTP, `size` samples a request; return rows/s and the load."""
    points = bodies.rows(tables, TARGETS, scrapes)
    prepared = [bodies.body(message_v1(batch)) for batch in bodies.batches(points, size)]
    load = await asyncio.to_thread(send, subject.url, prepared, V1_HEADERS, connections)
    return len(tables) * len(scrapes) * TARGETS / load.seconds, load
