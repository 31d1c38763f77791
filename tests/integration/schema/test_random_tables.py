"""Any declared tables are created, and widened to any later declaration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

import asyncpg
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from receiver.config.settings import Settings
from receiver.config.table_names import check_column, check_table
from receiver.rows.columns import BIGINT, BOOLEAN, CODE, DOUBLE, SPECIAL_DOUBLE, timestamp
from receiver.rows.tables import Catalogue, Column, LabelColumn, Table
from receiver.storage.connection.places import quote
from receiver.storage.schema.revisions import check_schema, migrate, plan
from receiver.storage.writing.statements import any_value
from tests.conftest import MakeSettings
from tests.declaring import columns_of, run_plan

TYPES: Final = (BIGINT, BOOLEAN, CODE, DOUBLE, SPECIAL_DOUBLE, timestamp(1000))
WORDS: Final = (
    *("order", "user", "table", "labels", "age", "rows", "since", "until", "max_gap", "code"),
    *("name", "description", "newest", "place", "starts", "ends", "samples", "now", "l", "e", "s"),
    *('a"b', "a'b", "{0}", "%s", "$1", "A", "상태", "a b", "a\\b", "--", ";", "x" * 63, "라" * 21),
)
NUMBERS: Final = count(1)
"""Numbers of the examples, which share a database."""


def fits(check: Callable[[str], str]) -> Callable[[str], bool]:
    """Return a filter for the names that a check accepts."""

    def try_name(name: str) -> bool:
        try:
            check(name)
        except ValueError:
            return False
        return True

    return try_name


texts = st.text("abAB_09 \"'\\{}%$.-;:/가나다é", min_size=1, max_size=12)
columns_names = st.one_of(st.sampled_from(WORDS), texts).filter(fits(check_column))
table_names = texts.filter(fits(check_table)).filter(lambda name: len(name.encode()) < 30)


@st.composite
def columns(draw: DrawFn, name: str, codes: Sequence[str]) -> Column:
    """Draw a column of this name."""
    type_ = draw(st.sampled_from(TYPES))
    table = draw(st.sampled_from(codes)) if type_ is CODE else ""
    return Column(name, f"metric_{name}", type_, required=draw(st.booleans()), codes=table)


@st.composite
def pairs_of_catalogues(draw: DrawFn) -> tuple[Catalogue, Catalogue]:
    """Draw tables, and the same tables with columns added, removed and made optional."""
    number = next(NUMBERS)
    names = draw(st.lists(table_names, min_size=1, max_size=3, unique_by=str.lower))
    codes = [f"{name} c{number}" for name in names]
    before: list[Table] = []
    after: list[Table] = []
    for name in names:
        drawn = draw(st.lists(columns_names, min_size=3, max_size=9, unique=True))
        cut = draw(st.integers(1, len(drawn)))
        labels = [
            LabelColumn(label, "x", "bigint" if len(label) % 2 else "text") for label in drawn[cut:]
        ]
        made = [draw(columns(column, codes)) for column in drawn[:cut]]
        for kept, listed in ((before, draw(st.permutations(made))), (after, made)):
            some = listed[: draw(st.integers(1, len(listed)))]
            first = Column(
                some[0].name, some[0].metric, some[0].type, required=True, codes=some[0].codes
            )
            kept.append(
                Table(
                    f"{name} {number}",
                    [
                        first,
                        *(draw(st.sampled_from([column, relaxed(column)])) for column in some[1:]),
                    ],
                    labels=labels[: draw(st.integers(0, len(labels)))],
                )
            )
    return Catalogue(before), Catalogue(after)


def relaxed(column: Column) -> Column:
    """Return the column as an optional one."""
    return Column(column.name, column.metric, column.type, required=False, codes=column.codes)


catalogues: SearchStrategy[tuple[Catalogue, Catalogue]] = pairs_of_catalogues()


def declaring(settings: Settings, catalogue: Catalogue) -> Settings:
    """Return the settings with these tables."""
    changed = settings.model_copy()
    changed.__dict__["catalogue"] = catalogue
    return changed


async def assert_made(connection: asyncpg.Connection, catalogue: Catalogue) -> None:
    """Check that all tables, columns and views exist, and store and show a row."""
    for table in catalogue.tables:
        declared = {column.name for column in table.columns}
        declared |= {column.name for column in table.labels}
        assert (await columns_of(connection, table.name)).keys() >= declared
        shown = {*(await columns_of(connection, f"{table.name}_now"))}
        # A view keeps its own column of a name that the table was given later.
        assert declared - shown <= {"labels", "age"}
        assert len(shown) >= len(declared) + 4
        required = [column for column in table.columns if column.required]
        for code_table in {column.codes for column in table.codes if column.codes}:
            await connection.execute(
                f"INSERT INTO {quote(code_table)} VALUES (0, 'OK') ON CONFLICT DO NOTHING"
            )
        await connection.execute(
            f"INSERT INTO {quote(table.name)} ({', '.join(quote(c.name) for c in required)}, "
            f"source_id, created_at) SELECT {', '.join(map(any_value, required))}, $1, "
            "clock_timestamp()",
            await connection.fetchval("SELECT min(id) FROM sources"),
        )
        if await connection.fetchval("SELECT to_regclass('source_keys')"):
            # Exists on Citus only; receivers fill it as they add sources.
            await connection.execute(
                "INSERT INTO source_keys SELECT id FROM sources ON CONFLICT DO NOTHING"
            )
        rows = await connection.fetch(f"SELECT * FROM {quote(f'{table.name}_now')}")
        assert len(rows) == 1
        if table.codes:
            await connection.fetch(f"SELECT * FROM {quote(f'{table.name}_intervals')}")
            await connection.fetch(
                f"SELECT * FROM {quote(f'{table.name}_intervals_between')}('-infinity')"
            )


@hypothesis_settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(pair=catalogues, by_hand=st.booleans())
async def test_tables_are_made_and_widened(
    connection: asyncpg.Connection,
    database_url: str,
    make_settings: MakeSettings,
    pair: tuple[Catalogue, Catalogue],
    *,
    by_hand: bool,
) -> None:
    await connection.execute(
        "INSERT INTO sources (labels, digest) VALUES ('{}', 'a') ON CONFLICT DO NOTHING"
    )
    settings = make_settings(database_url=database_url)
    before: dict[str, set[str]] = {}
    for catalogue in pair:
        declared = declaring(settings, catalogue)
        if by_hand:
            await run_plan(connection, declared)
        else:
            await migrate(declared)
        assert await plan(declared) == []
        await check_schema(declared)
        await assert_made(connection, catalogue)
        for table in catalogue.tables:
            there = {*(await columns_of(connection, table.name))}
            assert there >= before.get(table.name, set())
            before[table.name] = there
