"""The dashboard, and the macro substitution that Grafana applies to a query.

See `macros.go` and `sqleng/sql_engine.go` of Grafana's PostgreSQL data source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/receiver.json").read_text())
REPORT: dict[str, Any] = json.loads((ROOT / "deploy/grafana/report.json").read_text())
MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")


class Query(NamedTuple):
    """One query of one panel."""

    panel: str
    ref: str
    source: str
    target: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.panel}-{self.ref}"


class Range(NamedTuple):
    """The time range of a dashboard, and the interval between its points."""

    start: datetime
    end: datetime
    interval: timedelta = timedelta(seconds=30)


def queries(source: str, dashboard: dict[str, Any] = DASHBOARD) -> Iterator[Query]:
    """Yield all queries of the panels to a data source of this type."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            if target["datasource"]["type"] == source:
                yield Query(panel["title"], target["refId"], source, target)


def find_query(panel: str, ref: str = "A", dashboard: dict[str, Any] = DASHBOARD) -> str:
    """Return the SQL of a panel."""
    (sql,) = (
        query.target["rawSql"]
        for query in queries("grafana-postgresql-datasource", dashboard)
        if (query.panel, query.ref) == (panel, ref)
    )
    return str(sql)


def substitute(
    sql: str, shown: Range, *, sources: str = "SELECT id FROM sources", timescaledb: bool = False
) -> str:
    """Return the query as Grafana sends it to the database.

    Args:
        sql: The query as written in the dashboard.
        shown: The time range.
        sources: The value of the variable `$source`; by default all sources.
        timescaledb: Whether the data source is configured to have TimescaleDB.
    """
    seconds = shown.interval.total_seconds()
    start, end = (
        f"'{at.astimezone(UTC).isoformat().replace('+00:00', 'Z')}'"
        for at in (shown.start, shown.end)
    )

    def expand(match: re.Match[str]) -> str:
        name, arguments = match[1], [word.strip() for word in match[2].split(",")]
        match name:
            case "__timeFrom":
                return start
            case "__timeTo":
                return end
            case "__timeFilter":
                return f"{arguments[0]} BETWEEN {start} AND {end}"
            case "__timeGroupAlias":
                column, interval = arguments
                assert interval == f"{seconds:g}s"
                if timescaledb:
                    return f"time_bucket('{seconds:.3f}s',{column}) AS \"time\""
                group = f"floor(extract(epoch from {column})/{seconds:g})*{seconds:g}"
                return f'{group} AS "time"'
        raise ValueError(f"Grafana has no macro {name}")

    sql = sql.replace("$table", "app_logs").replace("$by", "source")
    sql = sql.replace("$source", sources).replace("$__interval", f"{seconds:g}s")
    return MACRO.sub(expand, sql)
