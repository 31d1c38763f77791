"""Look for problems, and report what to do; nothing is changed.

Checks the settings, the database and, with --prometheus, what Prometheus sends. Run it with the
receiver's own settings. Prints one line per finding: ok, note, warning or problem.

Examples:
    receiver doctor
    receiver doctor --prometheus http://localhost:9090 --json

The exit code is 1 if any finding is a problem, else 0.
"""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from contextlib import aclosing
from typing import Final

from rich.console import Console
from rich.text import Text

from receiver.commands.arguments import base_url
from receiver.commands.terminal import open_console
from receiver.config.settings import Settings
from receiver.doctor import own, prometheus
from receiver.embedded import EmbeddedPostgres
from receiver.embedded.running import database, share_embedded
from receiver.errors import ReceiverError
from receiver.printable import is_unicode, printable, to_json
from receiver.storage import diagnosis
from receiver.storage.diagnosis.findings import Finding, Level, Report, note, problem

STYLES: Final = {
    Level.OK: "green",
    Level.NOTE: "cyan",
    Level.WARNING: "yellow",
    Level.PROBLEM: "bold red",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the address of Prometheus and the output format."""
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        type=base_url,
        help="check this Prometheus, too, such as http://localhost:9090",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


async def run(settings: Settings, arguments: Namespace) -> int:
    """Run the checks, and print each finding at once."""
    console = open_console()
    findings = []
    async with aclosing(examine(settings, arguments.prometheus)) as report:
        async for topic, finding in report:
            findings.append({"topic": topic, **finding._asdict()})
            if not arguments.json:
                show(console, topic, finding)
    if arguments.json:
        text = to_json(findings, ascii_only=not is_unicode(console.file), indent=2)
        console.print(Text(text), soft_wrap=True)
    return 1 if any(finding["level"] == Level.PROBLEM for finding in findings) else 0


async def examine(settings: Settings, prometheus_url: str | None) -> Report:
    """Run all checks in order, and yield the findings; without tables, only the receiver's own."""
    reports = [own.diagnose(settings)]
    if not own.faults_of_tables(settings):
        reports.append(examine_database(settings))
        if prometheus_url is not None:
            reports.append(prometheus.diagnose(prometheus_url, settings))
    for report in reports:
        # Closed here if the output cannot be written: at the end, asyncio would close all at once.
        async with aclosing(report):
            async for found in report:
                yield found


async def examine_database(settings: Settings) -> Report:
    """Check the database; an embedded one is started if it exists, but not created."""
    try:
        shared = await asyncio.to_thread(share_embedded, settings)
        if shared.database_url is None and not EmbeddedPostgres(settings.data_dir).exists:
            found = f"RECEIVER_DATABASE_URL is not set, and {settings.data_dir} has no database"
            yield "database", note(found, "`receiver serve` creates an embedded one there")
            return
        async with (
            database(shared) as reachable,
            aclosing(diagnosis.diagnose(reachable)) as report,
        ):
            async for finding in report:
                yield finding
    except (ReceiverError, OSError) as error:
        yield "database", problem(str(error))


def show(console: Console, topic: str, finding: Finding) -> None:
    """Print a finding as one line, with unsafe characters escaped."""
    arrow = "→" if is_unicode(console.file) else "->"
    line = f"{topic}: {finding.found}" + (f" {arrow} {finding.advice}" if finding.advice else "")
    level = (f"{finding.level:<8} ", STYLES[finding.level])
    text = Text.assemble(level, printable(" ".join(line.split())))
    console.print(text, soft_wrap=True)
