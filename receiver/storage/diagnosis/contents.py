"""Checks incomplete rows, rejected samples, unnamed codes and the clocks."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from receiver.config.settings import Settings
from receiver.config.table_names import ERROR_CODES
from receiver.rows.reasons import Reason
from receiver.storage.connection.database import Connection
from receiver.storage.connection.places import quote
from receiver.storage.diagnosis.awaited import find_awaited
from receiver.storage.diagnosis.findings import Finding, brief, note, ok, warning

DELAY: Final = timedelta(minutes=5)
"""Delay of a sample or a row above which it is reported."""

SKEW: Final = timedelta(seconds=60)
"""Difference between two clocks above which it is reported."""

# Incomplete rows by table, and how long the oldest has waited.
PENDING: Final = """
SELECT table_name, count(*) AS total, now() - min(arrived_at) AS age
FROM pending_rows GROUP BY table_name ORDER BY table_name
"""

# How many of the first incomplete rows have a sample for each column.
PENDING_SAMPLES: Final = """
SELECT table_name, NULL AS column_name, count(*)
FROM (SELECT table_name FROM pending_rows LIMIT 100000) AS first GROUP BY 1
UNION ALL
SELECT table_name, column_name, count(*)
FROM (SELECT table_name, samples FROM pending_rows LIMIT 100000) AS first,
    jsonb_object_keys(samples) AS column_name
GROUP BY 1, 2
"""

# How many samples were rejected in the last day, by reason and table; the newest 100,000 samples
# are representative enough.
REJECTED: Final = """
SELECT reason, table_name, count(*) AS number
FROM (
    SELECT reason, table_name, rejected_at FROM rejected_samples ORDER BY id DESC LIMIT 100000
) AS newest
WHERE rejected_at > now() - interval '1 day'
GROUP BY reason, table_name ORDER BY number DESC, reason, table_name
"""

# How many rejected samples there are in all, counted up to a million to stay fast.
REJECTED_IN_ALL: Final = """
SELECT count(*) FROM (SELECT 1 FROM rejected_samples LIMIT 1000000) AS first_million
"""

UNREGISTERED: Final = """
SELECT code FROM {codes} WHERE name = 'UNREGISTERED_' || code ORDER BY code
"""

LOOK_AT_PENDING: Final = (
    "SELECT left(s.labels::text, 200) AS labels, p.* FROM pending_rows p "
    "JOIN sources s ON s.id = p.source_id ORDER BY p.arrived_at LIMIT 10"
)

REMEDIES: Final = {
    Reason.CONFLICT: "two senders use the same labels and time: tell them apart by a label",
    Reason.UNPAIRED: "the metrics of a row must be scraped together and have the same labels",
    Reason.OUT_OF_RANGE: "if it is a timestamp, its unit may be another: RECEIVER_OCR_UNIT, or "
    "`unit` of the column",
    Reason.TIMESTAMP_OUT_OF_RANGE: "set the clock of Prometheus or of the application",
    Reason.WITH_OTHER: "another sample of the row was rejected; see the reason of that one",
    Reason.LABEL: "a label's value does not fit its column: declare it as text, or drop it from "
    "`labels`",
    Reason.TOO_OLD: "set the sender's clock, or raise RECEIVER_MAX_SAMPLE_AGE",
    Reason.TOO_FAR_AHEAD: "set the sender's clock, or raise RECEIVER_MAX_SAMPLE_LEAD",
    Reason.TOO_MANY_SOURCES: "drop labels that change with each scrape (write_relabel_configs), or "
    "raise RECEIVER_MAX_NEW_SOURCES",
    Reason.TOO_MANY_CODES: "check whether the metric holds codes, or raise RECEIVER_MAX_NEW_CODES",
    Reason.TOO_MANY_CHUNKS: "set the senders' clocks, load history with `receiver backfill`, or "
    "raise RECEIVER_MAX_NEW_CHUNKS",
    Reason.REFUSED: "a constraint, trigger or policy refuses it; the column detail says which",
}
"""What to do about samples rejected for a reason; other reasons are the application's own fault."""


async def check_pending(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether incomplete rows have waited too long."""
    waiting = await connection.fetch(PENDING)
    if not waiting:
        return [ok("no incomplete rows")]
    came: defaultdict[str, dict[str | None, int]] = defaultdict(dict)
    for table, column, count in await connection.fetch(PENDING_SAMPLES):
        came[table][column] = count
    return [judge_pending(row, came[row["table_name"]], settings) for row in waiting]


def judge_pending(
    waiting: asyncpg.Record, came: Mapping[str | None, int], settings: Settings
) -> Finding:
    """Return the finding on a table's incomplete rows: what they lack, and if they wait too long.

    Args:
        waiting: A row of `PENDING`.
        came: How many rows have a sample for each column and, under None, how many rows were read.
        settings: The receiver's settings.
    """
    name, total, age = waiting
    state = f"incomplete rows of {name}: {total}, the oldest for {brief(age)}"
    table = settings.catalogue.by_name.get(name)
    if table is None:
        return warning(
            f"{state}; the table is no longer declared", f"to list them: {LOOK_AT_PENDING}"
        )
    lacking = {
        column.name: came.get(None, 0) - came.get(column.name, 0)
        for column in table.columns
        if column.required
    }
    listed = ", ".join(f"{column} ({count})" for column, count in lacking.items() if count > 0)
    state += f"; they lack {listed}" if listed else ""
    if age > table.pair_timeout + settings.maintenance_interval + DELAY:
        advice = "they should have been rejected long ago: is `receiver serve` running?"
        return warning(state, advice)
    if age > DELAY:
        advice = "the metrics of a row must have the same labels and all be sent; to list them"
        return warning(state, f"{advice}: {LOOK_AT_PENDING}")
    return ok(state)


async def check_rejected(connection: Connection, settings: Settings) -> list[Finding]:
    """Check whether samples were rejected recently, and why."""
    in_all = await connection.fetchval(REJECTED_IN_ALL)
    reasons = await connection.fetch(REJECTED)
    if not reasons:
        return [ok(f"no sample was rejected in the last day ({in_all} in all)")]
    several = settings.catalogue.by_name.keys() | {row["table_name"] for row in reasons}
    counts = ", ".join(
        f"{number} {reason}" + (f" of {table}" if len(several) > 1 else "")
        for reason, table, number in reasons
    )
    default = "the application exposes a value that its column cannot hold; see rejected_samples"
    return [
        warning(
            f"samples rejected in the last day: {counts} ({in_all} in all)",
            REMEDIES.get(reasons[0]["reason"], default),
        )
    ]


async def check_codes(connection: Connection, settings: Settings) -> list[Finding]:
    """Check for codes that nobody has named."""
    findings = []
    awaited = await find_awaited(connection, settings.catalogue)
    for name in settings.catalogue.code_tables:
        if name in awaited:
            continue
        rows = await connection.fetch(UNREGISTERED.format(codes=quote(name)))
        codes = [str(row["code"]) for row in rows]
        if codes:
            shown = ", ".join(codes[:10]) + (", …" if len(codes) > 10 else "")
            what = "error codes" if name == ERROR_CODES else f"codes of {name}"
            table = "" if name == ERROR_CODES else f" --table {shlex.quote(name)}"
            advice = f"receiver codes rename CODE NAME [DESCRIPTION]{table}"
            findings.append(note(f"{what} without a name: {shown}", advice))
    return findings or [ok("every code has a name")]


async def check_clock(connection: Connection, _: Settings) -> list[Finding]:
    """Check whether the database's clock agrees with this machine's."""
    before = datetime.now(UTC)
    now = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    skew = max(now - after, before - now, timedelta())
    if skew > SKEW:
        advice = "set the clocks of both (NTP)"
        return [warning(f"the database's clock and this machine's are {brief(skew)} apart", advice)]
    return [ok("the database's clock agrees with this machine's")]


CHECKS: Final = {
    "pending": check_pending,
    "rejected": check_rejected,
    "codes": check_codes,
    "clock": check_clock,
}
