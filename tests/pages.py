"""Receivers whose web page tests request, data to show there, and the text of a page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import asyncpg
from aiohttp import web
from aiohttp.typedefs import Handler

from receiver.config.settings import Settings
from receiver.process.app import build_app
from receiver.process.server import running
from receiver.security.identity import IDENTITY
from tests.logs import add_logs, add_sources, logs, seconds
from tests.receivers import Running

SOURCES = 12
MARKUP = "<script>alert(1)</script>"


@web.middleware
async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Authenticate every request, as the real middleware does for a valid credential."""
    request[IDENTITY] = "operator"
    return await handler(request)


@asynccontextmanager
async def showing(settings: Settings, *, known: bool = False) -> AsyncIterator[Running]:
    """Run a receiver in this process; with `known`, every request is authenticated."""
    app = build_app(settings)
    if known:
        app.middlewares.append(let_in)
    async with running(app, settings) as runner, aiohttp.ClientSession() as session:
        yield Running(app, runner.addresses[0], session)


def words(page: str) -> str:
    """Return the text of a page without its markup."""
    body = page.partition("<main")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


async def fill(database_url: str) -> None:
    """Store an hour of a dozen sources: one fails at times, one falls silent, one sends nothing."""
    connection = await asyncpg.connect(database_url)
    await add_sources(connection, SOURCES)
    await connection.execute(
        "UPDATE sources SET labels = jsonb_build_object('instance', $1::text) WHERE id = 2", MARKUP
    )
    await connection.execute(
        "INSERT INTO error_codes (code, name, description) VALUES (7, $1, '렌즈 오염')", MARKUP
    )
    now = datetime.now(UTC)
    start = now - timedelta(minutes=55)
    healthy = [0] * 660
    failing = [0] * 200 + [1] * 100 + [2] * 60 + [7] * 40 + [99] * 60 + [0] * 200
    await add_logs(connection, logs(1, failing, start=start))
    await add_logs(connection, logs(2, healthy[:300], start=start))
    for source in range(3, SOURCES):
        await add_logs(connection, logs(source, healthy, start=start + seconds(0.1 * source)))
    await connection.executemany(
        """
        INSERT INTO rejected_samples
            (source_id, metric, timestamp_ms, value, reason, table_name, column_name)
        VALUES ($1, $2, $3, $4, $5, 'app_logs', $2)
        """,
        [
            (1, "app_status", int(now.timestamp() * 1000) - number, value, reason)
            for number in range(20)
            for value, reason in ((float("nan"), "not_a_number"), (1.5, "not_whole"))
        ]
        + [
            (2, "ocr_value", 2**62, float("inf"), "infinite"),
            (2, "app_status", -(2**62), 1e300, "out_of_range"),
            *((3, "app_status", number, 1.0, "unpaired") for number in range(20)),
        ],
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
