"""Look for what is wrong, or will be, and say what to do; nothing is changed.

Looks at the settings, at the database and, with --prometheus, at what Prometheus sends. Give it the
receiver's own settings. One line a finding: ok, note, warning or problem.

Examples:
    receiver doctor
    receiver doctor --prometheus http://localhost:9090 --json

The exit code is 1 if any finding is a problem, else 0.
"""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from typing import Final

from rich.console import Console
from rich.text import Text

from receiver.commands.arguments import base_url
from receiver.commands.connection import share_embedded
from receiver.commands.terminal import open_console
from receiver.config.settings import Settings
from receiver.doctor import own, prometheus
from receiver.embedded import EmbeddedPostgres
from receiver.embedded.running import database
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
    """Which Prometheus, and how to show what is found."""
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        type=base_url,
        help="look at this Prometheus too, such as http://localhost:9090",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


async def run(settings: Settings, arguments: Namespace) -> int:
    """Look, and show each finding as it comes."""
    console = open_console()
    findings = []
    async for topic, finding in examine(settings, arguments.prometheus):
        findings.append({"topic": topic, **finding._asdict()})
        if not arguments.json:
            show(console, topic, finding)
    if arguments.json:
        text = to_json(findings, ascii_only=not is_unicode(console.file), indent=2)
        console.print(Text(text), soft_wrap=True)
    return 1 if any(finding["level"] == Level.PROBLEM for finding in findings) else 0


async def examine(settings: Settings, prometheus_url: str | None) -> Report:
    """All that can be looked at, one side after the other."""
    async for found in own.diagnose(settings):
        yield found
    async for found in examine_database(settings):
        yield found
    if prometheus_url is not None:
        async for found in prometheus.diagnose(prometheus_url, settings):
            yield found


async def examine_database(settings: Settings) -> Report:
    """The database, also an embedded one that nobody runs; but none is made for it."""
    try:
        shared = await asyncio.to_thread(share_embedded, settings)
        if shared.database_url is None and not EmbeddedPostgres(settings.data_dir).exists:
            found = f"RECEIVER_DATABASE_URL is not set, and {settings.data_dir} has no database"
            yield "database", note(found, "`receiver serve` makes an embedded one there")
            return
        async with database(shared) as reachable:
            async for report in diagnosis.diagnose(reachable):
                yield report
    except (ReceiverError, OSError) as error:
        yield "database", problem(str(error))


def show(console: Console, topic: str, finding: Finding) -> None:
    """Print a finding as one line, whatever characters it was made of."""
    arrow = "→" if is_unicode(console.file) else "->"
    line = f"{topic}: {finding.found}" + (f" {arrow} {finding.advice}" if finding.advice else "")
    level = (f"{finding.level:<8} ", STYLES[finding.level])
    text = Text.assemble(level, printable(" ".join(line.split())))
    console.print(text, soft_wrap=True)
