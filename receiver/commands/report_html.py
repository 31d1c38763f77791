"""Writes a report as one self-contained HTML file, for mail, archives and printing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from receiver.commands.report_text import SHOWN, Report, cells, length, listed, percent

STYLE: Final = """\
:root { color-scheme: light; --ink: #17202a; --quiet: #5d6b7a; --line: #d9e0e6; --down: #c0283d; }
body { font: 15px/1.5 system-ui, "Noto Sans KR", sans-serif; color: var(--ink); margin: 2.5rem auto;
    max-width: 84rem; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; } p { color: var(--quiet); margin: .3rem 0 1.6rem; }
dl { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 0 0 2rem; }
dt { color: var(--quiet); }
dd { margin: 0; font-size: 1.7rem; font-variant-numeric: tabular-nums; }
dd small { display: block; font-size: .85rem; color: var(--quiet); }
table { border-collapse: collapse; width: 100%; margin: 0 0 2rem;
    font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; } td:first-child { white-space: normal; min-width: 11rem; }
th { color: var(--quiet); font-weight: 500; } th:first-child, td:first-child { text-align: left;
    overflow-wrap: anywhere; } tr.total { font-weight: 600; }
td.bar { width: 30%; text-align: left; }
td.bar i { display: block; height: .8rem; background: var(--down); min-width: 1px; }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } tr { break-inside: avoid; }
    thead { display: table-header-group; } td.bar i { print-color-adjust: exact; } }
@page { size: A4 landscape; margin: 12mm; }
"""


def write_html(report: Report) -> bytes:
    """Write the report as an HTML document."""
    language = report.language.value
    title = f"{report.say('report')}: {report.table}, {report.title()}"
    parts = [
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>\n{STYLE}</style></head><body>",
        f"<h1>{escape(report.table)}: {escape(report.title())}</h1>",
        f"<p>{escape(report.subtitle())}; {escape(report.zone)}</p>",
        *summary(report),
        *table(figure_head(report), figure_rows(report)),
    ]
    if report.codes:
        words = ("code", "name", "times", "down", "share", "cumulative")
        parts += table([*(report.say(word) for word in words), ""], code_rows(report))
    parts.append(f"<p>{escape(report.say('definitions'))}</p></body></html>\n")
    return "\n".join(parts).encode()


def summary(report: Report) -> Iterator[str]:
    """Yield the figures of all sources, with those of the previous period."""
    if report.total is None:
        return
    before = report.total_before
    yield "<dl>"
    for word in ("availability", "failures", "mttr", "mtbf", "micro_stops", "unknown"):
        now = show(getattr(report.total, word), word)
        then = "–" if before is None else show(getattr(before, word), word)
        yield f"<div><dt>{escape(report.say(word))}</dt><dd>{now}"
        yield f"<small>{escape(report.say('previous'))} {then}</small></dd></div>"
    yield "</dl>"


def show(value: object, word: str) -> str:
    """Format a figure."""
    if word == "availability":
        return percent(value)  # type: ignore[arg-type]  # what it is
    return str(value) if isinstance(value, int) else length(value)  # type: ignore[arg-type]


def figure_head(report: Report) -> list[str]:
    """Return the heading of the figures."""
    return [report.by_word, *(report.say(word) for word in SHOWN)]


def figure_rows(report: Report) -> Iterator[str]:
    """Yield the rows of the figures."""
    for name, line, before in listed(report):
        written = "".join(f"<td>{escape(cell)}</td>" for cell in (name, *cells(line, before)))
        kind = ' class="total"' if line is report.total else ""
        yield f"<tr{kind}>{written}</tr>"


def code_rows(report: Report) -> Iterator[str]:
    """Yield the rows of the Pareto, each with a bar."""
    for code in report.codes:
        shares = (percent(code.share), percent(code.cumulative_share))
        values = (code.code, code.name or "", code.times, length(code.down), *shares)
        written = "".join(f"<td>{escape(str(value))}</td>" for value in values)
        width = 100 * code.share / report.codes[0].share
        yield f'<tr>{written}<td class="bar"><i style="width:{width:.1f}%"></i></td></tr>'


def table(head: Iterable[str], rows: Iterable[str]) -> Iterator[str]:
    """Yield the parts of an HTML table."""
    cells = "".join(f'<th scope="col">{escape(word)}</th>' for word in head)
    yield f"<table><thead><tr>{cells}</tr></thead><tbody>"
    yield from rows
    yield "</tbody></table>"
