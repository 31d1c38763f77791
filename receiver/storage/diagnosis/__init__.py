"""The checks of the database that `receiver doctor` runs.

To add a check, write a function in the module for its subject that takes the connection and the
settings and returns findings, and add it to that module's `CHECKS`. It must be read-only and cheap:
no statement may take longer than `TIMEOUT`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, TypeVar

from receiver.config.settings import Settings
from receiver.errors import ReceiverError, SetupError
from receiver.storage.connection.database import (
    NAME_SILENT_NODES,
    Connection,
    session,
    translated,
    used,
)
from receiver.storage.diagnosis import (
    citus,
    contents,
    faults,
    rows,
    schema,
    server,
    tables,
    timescale,
    writing,
)
from receiver.storage.diagnosis.findings import Report, carry_out, problem
from receiver.storage.schema.revisions import HAS_VERSION

T = TypeVar("T")

TIMEOUT: Final = "10s"
READ_ONLY: Final = "SET default_transaction_read_only = on"

ALWAYS: Final = {
    **server.CHECKS,
    **schema.CHECKS,
    **timescale.CHECKS,
    **citus.CHECKS,
    **faults.CHECKS,
}
WITH_TABLES: Final = {
    **schema.CHECKS_OF_TABLES,
    **tables.CHECKS,
    **writing.CHECKS,
    **contents.CHECKS,
    **rows.CHECKS,
}


async def diagnose(settings: Settings) -> Report:
    """Run all checks of the database; yield their findings."""
    async with AsyncExitStack() as resources:
        runner = Runner(settings, resources)
        try:
            chosen = ALWAYS | (WITH_TABLES if await runner.run(has_tables) else {})
        except SetupError as error:
            yield "database", problem(str(error))
            return
        except ReceiverError as error:
            advice = "check RECEIVER_DATABASE_URL and the server's log"
            yield "database", problem(str(error), advice)
            return
        checks = {topic: partial(runner.run, check) for topic, check in chosen.items()}
        async for found in carry_out(checks):
            yield found


async def has_tables(connection: Connection, _: Settings) -> bool:
    """Return whether a revision of the receiver's schema was ever applied."""
    return bool(await connection.fetchval(HAS_VERSION))


class Runner:
    """Runs checks on a database in one session, opened again if the server ends it.

    Args:
        settings: The receiver's settings, with the database URL.
        resources: Closes the sessions at the end.
    """

    def __init__(self, settings: Settings, resources: AsyncExitStack) -> None:
        self._settings = settings
        self._resources = resources
        self._connection: Connection | None = None

    async def run(self, check: Callable[[Connection, Settings], Awaitable[T]]) -> T:
        """Run one check; some faults make the server end the session.

        Raises:
            ReceiverError: as `translated` does.
        """
        with translated():
            connection = await self._open()
        async with used(connection):
            return await check(connection, self._settings)

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            connection = await self._resources.enter_async_context(
                session(self._settings, statement_timeout=TIMEOUT, **NAME_SILENT_NODES)
            )
            # Through a pooler, the server session is shared.
            if not connection.preamble:
                await connection.execute(READ_ONLY)
            self._connection = connection
        return self._connection
