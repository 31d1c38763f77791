"""What `receiver doctor` looks at in the database.

A new check is a function of the module for its subject that takes the connection and the settings
and returns findings, and a line in that module's `CHECKS`. It reads only, and little: no statement
may take longer than `TIMEOUT`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, TypeAlias

from receiver.errors import ReceiverError
from receiver.findings import Finding, Report, carry_out, problem
from receiver.settings import Settings
from receiver.storage.database import Connection, session, translated
from receiver.storage.diagnosis import contents, schema, server, timescale

Look: TypeAlias = Callable[[Connection, Settings], Awaitable[Iterable[Finding]]]

TIMEOUT: Final = "10s"
LIMITS: Final = f"SET default_transaction_read_only = on; SET statement_timeout = '{TIMEOUT}'"

ALWAYS: Final = {**server.CHECKS, **schema.CHECKS, **timescale.CHECKS}
WITH_TABLES: Final = {**schema.CHECKS_OF_TABLES, **contents.CHECKS}


async def diagnose(settings: Settings) -> Report:
    """Look at the database that the settings name."""
    try:
        async with session(settings) as connection:
            with translated():
                await connection.execute(LIMITS)
                looks = ALWAYS | (
                    WITH_TABLES if await connection.fetchval(schema.HAS_VERSION) else {}
                )
            checks = {
                topic: partial(take, look, connection, settings) for topic, look in looks.items()
            }
            async for found in carry_out(checks):
                yield found
    except ReceiverError as error:
        yield "database", problem(str(error), "check RECEIVER_DATABASE_URL and the server's log")


async def take(look: Look, connection: Connection, settings: Settings) -> Iterable[Finding]:
    """Take one look.

    Raises:
        ReceiverError: as `translated` does.
    """
    with translated():
        return await look(connection, settings)
