"""Writes reports as files: CSV for Excel and pandas, and JSON."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from typing import Final

from aiohttp import web

from receiver.printable import cell
from receiver.storage.reading import reports
from receiver.web.answers import View
from receiver.web.headers import HEADERS
from receiver.web.report_pages import Line, Report
from receiver.web.zones import DEFAULT, read_zone

COMPARED: Final = ("availability", "failures", "mttr_seconds", "mtbf_seconds", "down_seconds")
"""Figures of the previous period that a file has beside those of the period."""
HEADINGS: Final = (
    *("name", "source_id", "sources", "availability", "up_seconds", "down_seconds"),
    *("planned_seconds", "unknown_seconds", "failures", "mttr_seconds", "mttf_seconds"),
    *("mtbf_seconds", "micro_stops", "micro_stop_time_seconds"),
)


def answer_csv(report: Report, view: View) -> web.Response:
    """Answer `GET /reports.csv`; with a byte order mark, by which Excel knows that it is UTF-8."""
    zone = read_zone(report.zone) or DEFAULT
    ends = {"start": report.period.since, "end": report.period.until}
    local = {
        f"{name}_local": f"{time.astimezone(zone):%Y-%m-%d %H:%M:%S}" for name, time in ends.items()
    }
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        [*ends, "by", *HEADINGS, *(f"previous_{name}" for name in COMPARED), *local, "time_zone"],
    )
    writer.writeheader()
    common = {name: time.isoformat() for name, time in ends.items()} | local
    total = report.total._replace(name=view.say("total"))
    kinds = [*((report.by, line) for line in report.lines), (reports.TOTAL, total)]
    for by, line in kinds:
        values = {**common, "time_zone": report.zone, "by": by, **record(line), **previous(line)}
        writer.writerow({name: cell(value) for name, value in values.items()})
    return download(text.getvalue().encode("utf-8-sig"), "text/csv", file_name(report, "csv"))


def answer_json(report: Report, _: View) -> web.Response:
    """Answer `GET /reports.json`."""
    found = {
        "since": report.period.since.isoformat(),
        "until": report.period.until.isoformat(),
        "time_zone": report.zone,
        "by": report.by,
        "total": record(report.total),
        "lines": [record(line) for line in report.lines],
        "codes": [{**code._asdict(), "down": code.down.total_seconds()} for code in report.codes],
    }
    body = json.dumps(found, ensure_ascii=False, indent=1).encode()
    return download(body, "application/json", file_name(report, "json"))


def record(line: Line) -> dict[str, object]:
    """Return the figures of a line by their names."""
    figures = line.figures
    values = (
        *(line.name, line.source_id, line.sources, figures.availability, figures.up, figures.down),
        *(figures.planned, figures.unknown, figures.failures, figures.mttr, figures.mttf),
        *(figures.mtbf, figures.micro_stops, figures.micro_stop_time),
    )
    return dict(zip(HEADINGS, values, strict=True))


def previous(line: Line) -> dict[str, object]:
    """Return the compared figures of the previous period, by their names."""
    before = {} if line.previous is None else record(line._replace(figures=line.previous))
    return {f"previous_{name}": before.get(name) for name in COMPARED}


def file_name(report: Report, kind: str) -> str:
    """Return the name of a file with a report."""
    day: date = report.period.day
    return f"report-{report.kind}-{day.isoformat()}.{kind}"


def download(body: bytes, kind: str, name: str) -> web.Response:
    """Return a response that browsers save as a file."""
    headers = {
        **HEADERS,
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
