"""Do rows come in, and do they make sense?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from receiver.config.settings import Settings
from receiver.rows.reasons import Reason
from receiver.storage.connection.database import Connection
from receiver.storage.diagnosis.findings import Finding, note, ok, problem, spell, warning

PATIENCE: Final = timedelta(minutes=5)
"""A twin that has not come by then, or a row, is worth a word."""

SKEW: Final = timedelta(seconds=60)
"""Clocks further apart than that are worth a word."""

# Halves that wait, those of them that are OCR values, and how long the oldest has waited.
PENDING: Final = """
SELECT count(*) AS total, count(*) FILTER (WHERE app_status IS NULL) AS ocr,
    now() - min(arrived_at) AS age
FROM pending_halves
"""

# Why samples were rejected in the last day, by reason; the newest 100,000 samples tell enough.
REJECTED: Final = """
SELECT reason, count(*) AS number
FROM (SELECT reason, rejected_at FROM rejected_samples ORDER BY id DESC LIMIT 100000) AS newest
WHERE rejected_at > now() - interval '1 day'
GROUP BY reason ORDER BY number DESC, reason
"""

# How many there are at all, as far as counting is quick.
REJECTED_IN_ALL: Final = """
SELECT count(*) FROM (SELECT FROM rejected_samples LIMIT 1000000) AS first_million
"""

UNREGISTERED: Final = """
SELECT code FROM error_codes WHERE name = 'UNREGISTERED_' || code ORDER BY code
"""

# Seconds since the time of the newest row up to now, by the database's clock.
NEWEST_AGE: Final = """
SELECT EXTRACT(EPOCH FROM now() - created_at)::double precision
FROM app_logs WHERE created_at <= now() ORDER BY created_at DESC LIMIT 1
"""

# Rows that lie in the future by more than $1, as far as counting is quick, and by how many seconds
# the last of them does.
FUTURE: Final = """
SELECT (
        SELECT count(*) FROM (
            SELECT FROM app_logs WHERE created_at > now() + $1::interval LIMIT 100000
        ) AS future
    ) AS number, (
        SELECT EXTRACT(EPOCH FROM created_at - now())::double precision
        FROM app_logs ORDER BY created_at DESC LIMIT 1
    ) AS lead
"""

# By what order of magnitude the newest rows' OCR times miss their own times.
FACTORS: Final = """
SELECT count(*) AS total,
    count(*) FILTER (WHERE factor BETWEEN 100 AND 10000) AS large,
    count(*) FILTER (WHERE factor BETWEEN 0.0001 AND 0.01) AS small
FROM (
    SELECT EXTRACT(EPOCH FROM ocr_value) / NULLIF(EXTRACT(EPOCH FROM created_at), 0) AS factor
    FROM app_logs WHERE created_at <= now() ORDER BY created_at DESC LIMIT 1000
) AS newest
"""

LOOK_AT_PENDING: Final = (
    "SELECT left(s.labels::text, 200) AS labels, p.* FROM pending_halves p "
    "JOIN sources s ON s.id = p.source_id ORDER BY p.arrived_at LIMIT 10"
)

REMEDIES: Final = {
    Reason.CONFLICT: "two senders use the same labels and time: tell them apart by a label",
    Reason.UNPAIRED: "the two metrics must be scraped together and have the same labels",
    Reason.OUT_OF_RANGE: "if it is the OCR metric, RECEIVER_OCR_UNIT may be another",
    Reason.TIMESTAMP_OUT_OF_RANGE: "set the clock of Prometheus or of the application",
    Reason.WITH_OTHER: "the other sample of the pair was rejected; look for the reason of that one",
    Reason.TOO_OLD: "set the sender's clock, or raise RECEIVER_MAX_SAMPLE_AGE",
    Reason.TOO_FAR_AHEAD: "set the sender's clock, or raise RECEIVER_MAX_SAMPLE_LEAD",
    Reason.TOO_MANY_SOURCES: "drop labels that change with each scrape (write_relabel_configs), or "
    "raise RECEIVER_MAX_NEW_SOURCES",
    Reason.TOO_MANY_CODES: "look whether the status metric holds error codes, or raise "
    "RECEIVER_MAX_NEW_CODES",
    Reason.TOO_MANY_CHUNKS: "set the senders' clocks, load history with `receiver backfill`, or "
    "raise RECEIVER_MAX_NEW_CHUNKS",
    Reason.REFUSED: "a constraint, trigger or policy refuses it; the column detail says which",
}
"""What to do about samples rejected for a reason; other values are the application's own fault."""


async def check_pending(connection: Connection, settings: Settings) -> list[Finding]:
    """Whether samples wait for the other one longer than a moment."""
    found = await connection.fetchrow(PENDING)
    if not found["total"]:
        return [ok("no sample waits for the other sample")]
    state = (
        f"samples that wait for the other sample: {found['total'] - found['ocr']} "
        f"{settings.status_metric}, {found['ocr']} {settings.ocr_metric}, the oldest for "
        f"{spell(found['age'])}"
    )
    if found["age"] > settings.pair_timeout + settings.maintenance_interval + PATIENCE:
        advice = "they should have been rejected long ago: is `receiver serve` running?"
        return [warning(state, advice)]
    if found["age"] > PATIENCE:
        advice = "the two metrics must have the same labels and both be sent; to look"
        return [warning(state, f"{advice}: {LOOK_AT_PENDING}")]
    return [ok(state)]


async def check_rejected(connection: Connection, _: Settings) -> list[Finding]:
    """Whether samples were rejected of late, and why."""
    in_all = await connection.fetchval(REJECTED_IN_ALL)
    reasons = await connection.fetch(REJECTED)
    if not reasons:
        return [ok(f"no sample was rejected in the last day ({in_all} in all)")]
    counts = ", ".join(f"{number} {reason}" for reason, number in reasons)
    default = "the application exposes a value that makes no row; to look: rejected_samples"
    return [
        warning(
            f"samples rejected in the last day: {counts} ({in_all} in all)",
            REMEDIES.get(reasons[0]["reason"], default),
        )
    ]


async def check_codes(connection: Connection, _: Settings) -> list[Finding]:
    """Whether there are codes that nobody has given a name."""
    codes = [str(row["code"]) for row in await connection.fetch(UNREGISTERED)]
    if not codes:
        return [ok("every error code has a name")]
    shown = ", ".join(codes[:10]) + (", …" if len(codes) > 10 else "")
    advice = "receiver codes rename CODE NAME [DESCRIPTION]"
    return [note(f"error codes that nobody has named: {shown}", advice)]


async def check_clock(connection: Connection, _: Settings) -> list[Finding]:
    """Whether the database's clock agrees with this machine's."""
    before = datetime.now(UTC)
    now = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    skew = max(now - after, before - now, timedelta())
    if skew > SKEW:
        advice = "set the clocks of both (NTP)"
        return [warning(f"the database's clock and this machine's are {spell(skew)} apart", advice)]
    return [ok("the database's clock agrees with this machine's")]


async def check_newest(connection: Connection, _: Settings) -> list[Finding]:
    """Whether rows come in, with times that are neither old nor yet to come."""
    seconds = await connection.fetchval(NEWEST_AGE)
    return [judge_newest(seconds), *await find_future(connection)]


def judge_newest(seconds: float | None) -> Finding:
    """What to say of the age of the newest row up to now."""
    if seconds is None:
        advice = "`receiver doctor --prometheus URL` tells whether anything is sent"
        return note("app_logs has no rows yet", advice)
    age = as_span(seconds)
    if age > PATIENCE:
        return warning(
            f"the newest row is {spell(age)} old",
            "nothing comes in, or clocks are wrong; `receiver doctor --prometheus URL` tells",
        )
    return ok(f"the newest row is {spell(age)} old")


async def find_future(connection: Connection) -> list[Finding]:
    """Whether there are rows that lie in the future, which nothing that shows the newest shows."""
    found = await connection.fetchrow(FUTURE, SKEW)
    if not found["number"]:
        return []
    return [
        warning(
            f"rows that lie in the future: {found['number']}, the newest by "
            f"{spell(as_span(found['lead']))}",
            "set the clocks of Prometheus, the applications and the database (NTP); until their "
            "time comes they do not count as the newest",
        )
    ]


def as_span(seconds: float) -> timedelta:
    """Read a length of time; what a timedelta holds is less than what TIMESTAMPTZ does."""
    return timedelta(seconds=max(min(seconds, 1e11), -1e11))


async def check_unit(connection: Connection, settings: Settings) -> list[Finding]:
    """Whether OCR times are off by the factor between the two units."""
    found = await connection.fetchrow(FACTORS)
    wrong = found["large"] if settings.ocr_unit == "seconds" else found["small"]
    if wrong > found["total"] / 2:
        other = "milliseconds" if settings.ocr_unit == "seconds" else "seconds"
        return [
            problem(
                f"{wrong} of the newest {found['total']} OCR times are off by a factor of 1000",
                f"set RECEIVER_OCR_UNIT={other}",
            )
        ]
    return [ok(f"OCR times fit the unit {settings.ocr_unit}")] if found["total"] else []


CHECKS: Final = {
    "pending": check_pending,
    "rejected": check_rejected,
    "codes": check_codes,
    "clock": check_clock,
    "rows": check_newest,
    "unit": check_unit,
}
