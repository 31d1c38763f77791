"""Bring the database schema up to date; safe to run at any time, also several times at once.

`receiver serve` does so itself unless --no-migrate-on-start is set. Compression and retention are
set up by the settings, too.

Example:
    receiver migrate --database-url postgresql://owner@db.example.com/factory
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from typing import Final

from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.embedded.running import database
from receiver.storage.schema.revisions import migrate, newest_revision

logger = logging.getLogger(__name__)

SETTINGS: Final = (Section.DATABASE, Section.METRICS, Section.STORAGE)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--distribute",
        action="store_true",
        help="also distribute tables that have rows over the nodes of Citus; writers wait until "
        "all rows have moved",
    )


async def run(settings: Settings, arguments: Namespace) -> int:
    """Migrate the database."""
    # Reads the tables file, so that an error in it is reported before a database is started.
    logger.debug("migrating %d tables", len(settings.catalogue.tables))
    async with database(settings) as reachable:
        await migrate(reachable, with_rows=arguments.distribute)
    logger.info("the schema is up to date, revision %s", newest_revision())
    return 0
