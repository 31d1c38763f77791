"""The queries of docs/queries.md return the results shown there, for the data it describes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import asyncpg
import pytest

from receiver.storage.connection.connecting import is_distributed
from tests.logs import Log, add_logs, add_sources, refresh, seconds, stop_refreshing

DOCS = Path(__file__).parents[2] / "docs"
ENGLISH, KOREAN = DOCS / "queries.md", DOCS / "queries.ko.md"
REPORTS = DOCS / "reports.md"
CITUS = DOCS / "citus.md"
SEOUL = timezone(timedelta(hours=9))
QUERY = re.compile(r"```sql\n(.*?)```(?:\s*```text\n(.*?)```)?", re.DOTALL)
GRANT = re.compile(r"^ *(GRANT .*;)$", re.MULTILINE)


def of_day(hour: int, minute: int) -> datetime:
    return datetime(2025, 11, 24, hour, minute, tzinfo=SEOUL)


def scrapes(source: int, start: datetime, end: datetime, status: int, delay: float) -> list[Log]:
    """Return one row every 5 seconds."""
    count = int((end - start) / seconds(5))
    return [(source, start + seconds(5 * n), status, seconds(delay)) for n in range(count)]


THE_DAY = [
    *scrapes(1, of_day(9, 0), of_day(9, 40), 0, 1.5),
    *scrapes(1, of_day(9, 40), of_day(9, 42), 2, 3),
    *scrapes(1, of_day(9, 42), of_day(10, 10), 0, 1.5),
    (1, of_day(10, 10), 1, seconds(3)),
    *scrapes(1, of_day(10, 10) + seconds(5), of_day(10, 30), 0, 1.5),
    *scrapes(2, of_day(9, 0), of_day(9, 30), 0, 2),
    *scrapes(2, of_day(9, 45), of_day(10, 4), 0, 2),
    *scrapes(2, of_day(10, 4), of_day(10, 5), 99, 2),
]


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to a database with the two cameras of the document, in its time zone."""
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "Asia/Seoul"})
    await stop_refreshing(connection)
    await add_sources(connection, 2)
    await add_logs(connection, THE_DAY)
    await refresh(connection)
    yield connection
    await connection.close()


def examples(document: Path) -> list[tuple[str, str]]:
    """Return the queries of a document, each with the result shown, which may be empty."""
    return QUERY.findall(document.read_text(encoding="utf-8"))


def cells(shown: str) -> list[list[str]]:
    """Parse the header and the rows of a table printed by psql."""
    return [
        [cell.strip() for cell in line.split("|")]
        for line in shown.splitlines()
        if not re.fullmatch(r"[-+]+|\(\d+ rows?\)", line)
    ]


async def answer(connection: asyncpg.Connection, query: str) -> list[list[str]]:
    """Run a query; return the header and the rows as PostgreSQL writes them."""
    output = io.BytesIO()
    bare = query.strip().removesuffix(";")
    await connection.copy_from_query(bare, output=output, format="csv", header=True)
    return list(csv.reader(io.StringIO(output.getvalue().decode())))


async def test_the_queries_answer_what_is_shown(connection: asyncpg.Connection) -> None:
    shown = 0
    for query, table in [*examples(ENGLISH), *examples(REPORTS)]:
        if query.startswith("GRANT"):
            continue
        found = await answer(connection, query)
        if table:
            assert found == cells(table), query
            shown += 1
    assert shown >= 8


async def test_the_rights_that_are_shown_can_be_granted(connection: asyncpg.Connection) -> None:
    documents = [ENGLISH, CITUS] if await is_distributed(connection) else [ENGLISH]
    grants = [grant for document in documents for grant in GRANT.findall(document.read_text())]
    assert len(grants) > len(documents)
    role = await connection.fetchval("SELECT current_database() || '_analyst'")
    await connection.execute(f"CREATE ROLE {role} LOGIN")
    try:
        for grant in grants:
            await connection.execute(grant.replace("analyst", role))
        await connection.execute(f"SET ROLE {role}")
        for query, _ in examples(ENGLISH):
            if not query.startswith("GRANT"):
                await connection.fetch(query)
    finally:
        await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


def test_both_languages_show_the_same() -> None:
    blocks = [
        re.findall(r"```\w*\n.*?```", document.read_text(encoding="utf-8"), re.DOTALL)
        for document in (ENGLISH, KOREAN)
    ]
    uncommented = [[re.sub(r"--.*", "", block) for block in found] for found in blocks]
    assert uncommented[0] == uncommented[1]
