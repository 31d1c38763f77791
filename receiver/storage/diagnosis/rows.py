"""Checks whether rows arrive, and with plausible times."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from receiver.config.catalogue import unit_of
from receiver.config.settings import Settings
from receiver.config.table_names import APP_LOGS
from receiver.rows.tables import Column, Table
from receiver.storage.connection.database import Connection
from receiver.storage.connection.places import quote
from receiver.storage.diagnosis.awaited import find_awaited
from receiver.storage.diagnosis.contents import DELAY, SKEW
from receiver.storage.diagnosis.findings import Finding, brief, note, ok, problem, warning

# Seconds since the newest row that is not in the future, by the database's clock.
NEWEST_AGE: Final = """
SELECT EXTRACT(EPOCH FROM now() - created_at)::double precision
FROM {table} WHERE created_at <= now() ORDER BY created_at DESC LIMIT 1
"""

# How many rows are more than $1 in the future, counted up to 100,000 to stay fast, and by how many
# seconds the latest row is.
FUTURE: Final = """
SELECT (
        SELECT count(*) FROM (
            SELECT 1 FROM {table} WHERE created_at > now() + $1::interval LIMIT 100000
        ) AS future
    ) AS number, (
        SELECT EXTRACT(EPOCH FROM created_at - now())::double precision
        FROM {table} ORDER BY created_at DESC LIMIT 1
    ) AS lead
"""

# In how many of the newest rows the time in a column is off by a factor of about 1000 from the
# row's own time: too large, or too small.
FACTORS: Final = """
SELECT count(factor) AS total,
    count(*) FILTER (WHERE factor BETWEEN 100 AND 10000) AS large,
    count(*) FILTER (WHERE factor BETWEEN 0.0001 AND 0.01) AS small
FROM (
    SELECT EXTRACT(EPOCH FROM {column}) / NULLIF(EXTRACT(EPOCH FROM created_at), 0) AS factor
    FROM {table} WHERE created_at <= now() ORDER BY created_at DESC LIMIT 1000
) AS newest
"""


async def check_newest(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether rows arrive, with times that are neither old nor in the future."""
    findings = []
    awaited = await find_awaited(connection, settings.catalogue)
    for table in settings.catalogue.by_name:
        if table in awaited:
            continue
        seconds = await connection.fetchval(NEWEST_AGE.format(table=quote(table)))
        findings += [judge_newest(table, seconds), *await find_future(connection, table)]
    return findings


def judge_newest(table: str, seconds: float | None) -> Finding:
    """Return the finding on the age of a table's newest row that is not in the future."""
    if seconds is None:
        advice = "`receiver doctor --prometheus URL` shows whether anything is sent"
        return note(f"{table} has no rows yet", advice)
    age = as_span(seconds)
    state = f"the newest row of {table} is {brief(age)} old"
    if age > DELAY:
        return warning(
            state, "no samples arrive, or a clock is wrong: run `receiver doctor --prometheus URL`"
        )
    return ok(state)


async def find_future(connection: Connection, table: str) -> list[Finding]:
    """Find rows in the future, which everything that shows the newest rows leaves out."""
    found = await connection.fetchrow(FUTURE.format(table=quote(table)), SKEW)
    if not found["number"]:
        return []
    return [
        warning(
            f"rows of {table} that lie in the future: {found['number']}, the newest by "
            f"{brief(as_span(found['lead']))}",
            "set the clocks of Prometheus, the applications and the database (NTP); until their "
            "time comes they do not count as the newest",
        )
    ]


def as_span(seconds: float) -> timedelta:
    """Return a duration, limited to what a timedelta holds: TIMESTAMPTZ has a wider range."""
    return timedelta(seconds=max(min(seconds, 1e11), -1e11))


async def check_unit(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether times in a column are off by the factor between seconds and milliseconds."""
    findings = []
    awaited = await find_awaited(connection, settings.catalogue)
    for table in settings.catalogue.tables:
        for column in () if table.name in awaited else table.columns:
            if column.type.name == "timestamp":
                findings += await find_unit(connection, table, column, settings)
    return findings


async def find_unit(
    connection: Connection, table: Table, column: Column, settings: Settings
) -> list[Finding]:
    """Compare the times in a column with the times of their rows."""
    found = await connection.fetchrow(
        FACTORS.format(table=quote(table.name), column=quote(column.name))
    )
    unit, other = unit_of(column), "milliseconds"
    wrong = found["large"]
    if unit == other:
        other, wrong = "seconds", found["small"]
    if wrong > found["total"] / 2:
        built_in = settings.tables_file is None and table.name == APP_LOGS
        return [
            problem(
                f"{wrong} of the newest {found['total']} times in {table.name}.{column.name} are "
                "off by a factor of 1000",
                f"set RECEIVER_OCR_UNIT={other}"
                if built_in
                else f"declare the column with unit: {other}",
            )
        ]
    return [ok(f"{table.name}.{column.name} fits the unit {unit}")] if found["total"] else []


CHECKS: Final = {"rows": check_newest, "unit": check_unit}
