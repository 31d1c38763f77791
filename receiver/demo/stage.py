"""What the demo runs before anything is sent, started in order and ended in the reverse one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import web
from pydantic import SecretStr

from receiver.app import STORE, build_app
from receiver.demo.application import applications
from receiver.serve import embedded_database
from receiver.server import running
from receiver.settings import Settings
from receiver.write import WRITE_PATH

APPLICATIONS: Final = 2
METRICS: Final = {"status_metric": "app_status", "ocr_metric": "ocr_value", "ocr_unit": "seconds"}
"""What the applications expose, whatever the settings say of other ones."""


class Stage(NamedTuple):
    """A receiver and two applications that run."""

    settings: Settings
    opening: asyncio.Task[None]
    """Ends when the receiver can store."""
    targets: list[str]
    """HOST:PORT of each application."""
    url: str
    """Where to write to."""
    places: dict[str, str]
    """What there is to look at, and where."""


@asynccontextmanager
async def set_up(settings: Settings) -> AsyncIterator[Stage]:
    """Run database, receiver and applications.

    Raises:
        SetupError: one of them cannot be run.
    """
    async with AsyncExitStack() as stack:
        reachable, places = await stack.enter_async_context(
            database(settings.model_copy(update=METRICS))
        )
        app = build_app(reachable)
        runner = await stack.enter_async_context(running(app, reachable))
        targets = await stack.enter_async_context(applications(APPLICATIONS))
        url = write_url(reachable, runner)
        places |= {
            "receiver": url,
            "applications": " ".join(f"http://{target}/metrics" for target in targets),
        }
        yield Stage(reachable, app[STORE].opening, targets, url, places)


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[tuple[Settings, dict[str, str]]]:
    """The settings with a database, and where it is: the one they name, or one of our own."""
    if settings.database_url is not None:
        yield settings, {"database": "the one that RECEIVER_DATABASE_URL (--database-url) names"}
        return
    # Apart from a real receiver's rows.
    directory = settings.data_dir / "demo"
    async with embedded_database(directory) as embedded:
        places = {"data": str(directory), "psql": embedded.psql_command}
        yield settings.model_copy(update={"database_url": SecretStr(embedded.url)}), places


def write_url(settings: Settings, runner: web.AppRunner) -> str:
    """Where the receiver can be written to from this machine, though any port was asked for."""
    host, _, _ = settings.listen.rpartition(":")
    listen = f"{host}:{runner.addresses[0][1]}"
    return settings.model_copy(update={"listen": listen}).own_url + WRITE_PATH
