"""What Alembic runs: the receiver passes its connection; the `alembic` command asks for one."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from receiver.config.settings import Settings
from receiver.storage.schema.migrations import configure, run_in_transaction


def run(connection: Connection, _: Settings | None = None) -> None:
    configure(connection)
    context.run_migrations()


if connection := context.config.attributes.get("connection"):
    run(connection)
else:
    asyncio.run(run_in_transaction(Settings.load(), run))
