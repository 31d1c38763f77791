"""Rows of random tables from samples that come split, repeated, and to several receivers."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.config.settings import Settings
from receiver.protocol.limits import MIB
from receiver.protocol.series import FILTERED, NAME, SeriesCache
from receiver.protocol.tally import for_each_table
from receiver.rows.model import Sample
from receiver.rows.tables import Catalogue, Column, Table
from receiver.storage.connection.places import quote
from receiver.storage.schema.revisions import migrate
from receiver.storage.store import Store
from receiver.storage.writing.rehearsal import rehearse
from receiver.storage.writing.settling import settle_waiting
from tests.blocks import in_arrays
from tests.catalogues import LABELS, METRICS, Declared, catalogues
from tests.conftest import MakeSettings, fresh_database

NOW: Final = 1_700_000_000_000
EPOCH: Final = 946_684_800_000
VALUES: Final = (0.0, 1.0, 2.0, 7.0, 0.5, 1_700_000_000.25, float("nan"), float("inf"), -3.0)

DEADLOCKS: Final = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

Labels = tuple[tuple[str, str], ...]
Sent = tuple[str, Labels, int, float]
"""Metric, labels, timestamp, value."""
Key = tuple[str, Labels, int]
"""Table, labels that tell rows apart, timestamp."""


class Model:
    """A reference model of the rows that samples produce, computed one sample at a time.

    Args:
        catalogue: The tables.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.taken: defaultdict[Key, dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        """For each row and column, all sent values that the column accepts."""
        self.broken: set[Key] = set()
        """Rows of which a required sample was rejected."""

    def send(self, sent: Sent) -> None:
        metric, labels, timestamp, value = sent
        for table in self._catalogue.tables:
            for column in table.columns:
                if column.metric == metric and matches(table, dict(labels)):
                    rest = tuple(pair for pair in labels if pair[0] not in table.ignoring)
                    self._take((table.name, rest, timestamp), table, column, value)

    def _take(self, key: Key, table: Table, column: Column, value: float) -> None:
        fits = column.special or column.check(value) is None
        misfit = misfits(table, dict(key[1]))
        if fits and not misfit:
            values = self.taken[key][column.name]
            if not any(column.agree(known, value) for known in values):
                values.append(value)
        elif column.required and (misfit or not table.ignoring):
            # If labels are ignored, another series may bring a value that fits.
            self.broken.add(key)

    def rows(self) -> dict[Key, Mapping[str, list[float]]]:
        """Return the rows that must be there, with the values that each column may have."""
        return {
            key: columns
            for key, columns in self.taken.items()
            if all(
                columns.get(column.name)
                for column in self._catalogue.by_name[key[0]].columns
                if column.required
            )
        }


def matches(table: Table, labels: Mapping[str, str]) -> bool:
    return table.matches is None or table.matches(labels)


def misfits(table: Table, labels: Mapping[str, str]) -> bool:
    try:
        table.read_labels(labels)
    except ValueError:
        return True
    return False


label_sets: st.SearchStrategy[Labels] = st.dictionaries(
    st.sampled_from(LABELS), st.sampled_from(["a", "b", "1", "값", "x\0y"]), max_size=3
).map(lambda labels: tuple(sorted(labels.items())))


@st.composite
def scrapes(draw: st.DrawFn, metrics: Sequence[str], values: Sequence[float]) -> list[Sent]:
    """Draw samples of a few sources and times, most of them of whole rows."""
    sources = draw(st.lists(label_sets, min_size=1, max_size=4, unique=True))
    return [
        (metric, labels, NOW + moment, draw(st.sampled_from(values)))
        for labels in sources
        for moment in range(draw(st.integers(1, 4)))
        for metric in metrics
        if draw(st.integers(0, 7))
    ]


def divided(sent: Sequence[Sent], generator: random.Random) -> Iterator[list[Sent]]:
    """Divide samples into requests at random, each sample in up to three of them."""
    some = [one for one in sent for _ in range(generator.randint(1, 3))]
    generator.shuffle(some)
    while some:
        size = generator.randint(1, 12)
        yield some[:size]
        some = some[size:]


class Receivers:
    """Several receivers of one database, each with its own cache.

    Args:
        settings: Settings of the receivers.
        stores: An open store per receiver.
    """

    def __init__(self, settings: Settings, stores: Sequence[Store]) -> None:
        self.stores = stores
        self._caches = [SeriesCache(settings.catalogue, MIB) for _ in stores]

    async def send(self, requests: Iterable[list[Sent]], generator: random.Random) -> None:
        """Send requests to random receivers, a few at once."""
        waiting = list(requests)
        while waiting:
            some = [waiting.pop() for _ in range(min(len(waiting), generator.randint(1, 3)))]
            await asyncio.gather(*(self._send(generator, one) for one in some))

    async def _send(self, generator: random.Random, request: list[Sent]) -> None:
        number = generator.randrange(len(self.stores))
        cache, samples = self._caches[number], list[Sample]()
        for metric, labels, timestamp, value in request:
            key = json.dumps([metric, labels]).encode()
            series = cache.find(key)
            if series is None:
                series = cache.add(key, [(NAME, metric), *labels])
            if series is not FILTERED:
                samples += for_each_table([(series, timestamp, value)])
        if samples:
            blocks = generator.choices([0, 1, 1, 2], k=len(samples))
            await self.stores[number].store(in_arrays(samples, blocks))


@asynccontextmanager
async def receivers(settings: Settings, number: int = 2) -> AsyncIterator[Receivers]:
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(Store(settings, lambda: 0)) for _ in range(number)
        ]
        for store in stores:
            await store.opening
        yield Receivers(settings, stores)


def unescape(labels: str) -> Labels:
    """Return the labels of a source as they were sent."""
    return tuple(
        sorted((name, value.replace("␀0", "\0")) for name, value in json.loads(labels).items())
    )


async def stored_rows(connection: asyncpg.Connection, catalogue: Catalogue) -> dict[Key, list[Any]]:
    found: dict[Key, list[Any]] = {}
    for table in catalogue.tables:
        columns = ", ".join(f"t.{quote(column.name)}" for column in table.columns)
        for row in await connection.fetch(
            f"SELECT s.labels, (EXTRACT(EPOCH FROM t.created_at) * 1000)::bigint, {columns} "
            f"FROM {quote(table.name)} t JOIN sources s ON s.id = t.source_id"
        ):
            key = table.name, unescape(row[0]), row[1]
            assert key not in found, "a row is there twice"
            found[key] = list(row)[2:]
    return found


def comparable(column: Column, value: Any) -> Any:  # noqa: ANN401  of any column
    """Convert a stored value to the form of `Column.read`, with a NaN that equals itself."""
    if value is not None and column.type.name == "timestamp":
        value = round(value.timestamp() * 1_000_000) - EPOCH * 1000
    return "NaN" if value != value else value  # noqa: PLR0124


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("conflicting", [False, True])
@hypothesis_settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(declared=catalogues(max_tables=3, max_columns=5), data=st.data())
async def test_every_row_is_there_once(
    server_url: str,
    make_settings: MakeSettings,
    tmp_path: Path,
    declared: Declared,
    data: st.DataObject,
    *,
    conflicting: bool,
) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text(declared.text)
    generator = random.Random(data.draw(st.integers(0, 2**32)))
    sent = data.draw(scrapes(METRICS, VALUES if conflicting else VALUES[:2]))
    if conflicting:
        sent += [(*one[:3], data.draw(st.sampled_from(VALUES))) for one in sent]
    model = Model(declared.catalogue)
    for one in sent:
        model.send(one)
    async with fresh_database(server_url) as url:
        settings = make_settings(database_url=url, tables_file=file)
        await migrate(settings)
        async with receivers(settings) as some:
            await some.send(divided(sent, generator), generator)
            await settle_waiting(some.stores[0].database, settings.catalogue, settings.pair_timeout)
        connection = await asyncpg.connect(url)
        try:
            await compare(connection, declared.catalogue, model)
            # Retries would hide deadlocks from the outcome.
            assert await connection.fetchval(DEADLOCKS) == 0
        finally:
            await connection.close()


async def compare(connection: asyncpg.Connection, catalogue: Catalogue, model: Model) -> None:
    """Check that the tables hold what the model says, and nothing else."""
    found = await stored_rows(connection, catalogue)
    expected = model.rows()
    # A row may exist although a required sample was rejected, if a valid one came later.
    assert found.keys() <= expected.keys()
    assert expected.keys() - model.broken <= found.keys()
    for key, row in found.items():
        table = catalogue.by_name[key[0]]
        for column, value in zip(table.columns, row, strict=True):
            wanted = [comparable_reading(column, one) for one in expected[key].get(column.name, [])]
            stored = comparable(column, value)
            # In a broken row, an optional sample may have been rejected with the others.
            may_lack = not wanted or (key in model.broken and not column.required)
            assert stored in wanted or (stored is None and may_lack), (key, column)
    await compare_rejected(connection, catalogue, model, found)
    waiting = {
        (name, unescape(labels), at)
        for name, labels, at in await connection.fetch(
            "SELECT table_name, s.labels, (EXTRACT(EPOCH FROM p.created_at) * 1000)::bigint "
            "FROM pending_rows p JOIN sources s ON s.id = p.source_id"
        )
    }
    assert waiting == model.taken.keys() - expected.keys() - model.broken


def comparable_reading(column: Column, value: float) -> Any:  # noqa: ANN401  of any column
    reading = column.read(value)
    return "NaN" if reading != reading else reading  # noqa: PLR0124


async def compare_rejected(
    connection: asyncpg.Connection,
    catalogue: Catalogue,
    model: Model,
    found: Mapping[Key, list[Any]],
) -> None:
    """Check that every value that contradicts a row is rejected, once."""
    conflicts: defaultdict[tuple[Key, str], list[float]] = defaultdict(list)
    for name, column, labels, at, value in await connection.fetch(
        "SELECT table_name, column_name, s.labels, timestamp_ms, value FROM rejected_samples "
        "JOIN sources s ON s.id = source_id WHERE reason = 'conflict'"
    ):
        conflicts[(name, unescape(labels), at), column].append(value)
    for key, row in found.items():
        if key in model.broken:
            continue
        for column, value in zip(catalogue.by_name[key[0]].columns, row, strict=True):
            stored = comparable(column, value)
            lost = {
                repr(one)
                for one in model.taken[key].get(column.name, [])
                if comparable_reading(column, one) != stored
            }
            rejected = [repr(one) for one in conflicts.pop((key, column.name), [])]
            assert len(set(rejected)) == len(rejected), (key, column)
            assert lost == set(rejected), (key, column)


async def test_the_advice_for_a_table_without_a_key_can_be_run(
    empty_database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text("tables: {'압력 (bar)': {columns: {a: {metric: a, type: double}}}}")
    settings = make_settings(database_url=empty_database_url, tables_file=file)
    await migrate(settings)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute('ALTER TABLE "압력 (bar)" DROP CONSTRAINT "압력 (bar)_pkey"')
    trouble = await rehearse(connection, settings.catalogue)
    assert trouble is not None
    await connection.execute(trouble.partition("twice: ")[2])
    assert await rehearse(connection, settings.catalogue) is None
    await connection.close()
