"""Checks whether the declared tables and their views exist, and the declaration is in force."""

from __future__ import annotations

from typing import Final

from receiver.config.settings import Settings
from receiver.errors import SchemaError
from receiver.storage.connection.database import Connection
from receiver.storage.diagnosis.findings import Finding, note, ok, problem, warning
from receiver.storage.schema.declaration import declaration_obstacle
from receiver.storage.schema.differences import Difference, find_difference
from receiver.storage.schema.revisions import find_revision, newest_revision

AT_START: Final = "`receiver serve` does this at start, `receiver migrate` now"
SHOW: Final = "`receiver tables plan` shows the statements"


async def is_current(connection: Connection) -> bool:
    """Return whether the newest revision has been applied; otherwise little can be checked."""
    try:
        return await find_revision(connection) == newest_revision()
    except SchemaError:
        return False


async def check_declaration(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether the declaration of tables in force is this receiver's."""
    if not await is_current(connection):
        return []
    obstacle = await declaration_obstacle(connection, settings.catalogue)
    if obstacle is None:
        return [ok("the database has this receiver's declaration of tables")]
    found, _, advice = obstacle.rpartition("; ")
    if not found:
        return [problem(*obstacle.split(": ", 1))]
    if settings.migrate_on_start:
        advice = (
            "`receiver serve` replaces it at start; receivers with the other one then store nothing"
        )
        return [warning(found, advice)]
    return [problem(found, advice)]


async def check_tables(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether the declared tables exist, with their columns and views."""
    if not await is_current(connection):
        return []
    try:
        found = await find_difference(connection, settings.catalogue)
    except SchemaError as error:
        return [problem(*str(error).replace(";\n", "; ").split("\n", 1))]
    names = ", ".join(settings.catalogue.by_name)
    findings = describe_tables(found, migrates=settings.migrate_on_start)
    findings += describe_views(found)
    return findings or [ok(f"declared tables, with their columns and views: {names}")]


def describe_tables(found: Difference, *, migrates: bool) -> list[Finding]:
    """Return findings on what the declared tables lack."""
    if not found.tables:
        return []
    first = " ".join(found.tables[0].split())[:200]
    more = f" and {len(found.tables) - 1} more" if len(found.tables) > 1 else ""
    state = f"the declared tables must still be created or changed: {first}{more}"
    if migrates:
        return [note(state, f"{AT_START}; {SHOW}")]
    return [problem(state, f"run `receiver migrate`; {SHOW}")]


def describe_views(found: Difference) -> list[Finding]:
    """Return findings on views that are missing or cannot be created."""
    findings = [warning(*change.warning.split(": ", 1)) for change in found.views if change.warning]
    gone = [change.name for change in found.views if change.statements]
    if gone and not found.tables:
        findings.append(
            warning(f"views or functions are gone or lack columns: {', '.join(gone)}", AT_START)
        )
    return findings


CHECKS: Final = {"declaration": check_declaration, "tables": check_tables}
