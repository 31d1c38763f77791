"""Run the benchmarks, print a table, and save it with a plot in a directory.

    python -m benchmarks                       # everything, on the embedded PostgreSQL
    python -m benchmarks ingest split --server postgresql://postgres@127.0.0.1/postgres
    python -m benchmarks ingest --tables press.yaml     # rows of these tables instead of pairs
    python -m benchmarks --scale 0.1           # a quick trial

Use a machine that does nothing else. The figures depend on the machine; the ratios, taken in one
run, show how close the receiver comes to its limits.
"""

from __future__ import annotations

import asyncio
import tempfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from contextlib import nullcontext
from pathlib import Path

import asyncpg

from benchmarks.measures import MEASURES
from benchmarks.measures.common import Bench
from benchmarks.results import Result, plot, table
from benchmarks.subjects import scratch_database
from receiver.config.tables_reader import read_catalogue
from receiver.embedded import EmbeddedPostgres
from receiver.errors import ReceiverError


def known(name: str) -> str:
    """Check the name of a measure.

    Raises:
        ArgumentTypeError: no measure has this name.
    """
    if name not in MEASURES:
        raise ArgumentTypeError(f"must be one of {', '.join(MEASURES)}, not {name!r}")
    return name


def declared(name: str) -> Path:
    """Check a tables file.

    Raises:
        ArgumentTypeError: the file is wrong, or the rows of one of its tables could not be counted.
    """
    file = Path(name).absolute()
    try:
        tables = read_catalogue(file).tables
    except ReceiverError as error:
        raise ArgumentTypeError(str(error)) from None
    if choosing := [table.name for table in tables if table.match or table.ignoring]:
        raise ArgumentTypeError(
            f"{', '.join(choosing)}: without `match` and `ignoring`, for the labels that are sent "
            "are always the same"
        )
    return file


def parse() -> Namespace:
    """Parse the command line."""
    parser = ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "measures",
        nargs="*",
        type=known,
        metavar="MEASURE",
        help=f"any of {', '.join(MEASURES)} (default: all)",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        action="append",
        help="a server on which databases may be made; again for another one "
        "(default: an embedded PostgreSQL)",
    )
    parser.add_argument(
        "--tables",
        metavar="FILE",
        type=declared,
        help="a tables file (RECEIVER_TABLES_FILE) whose rows are sent (default: app_logs)",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="how much to send (default: 1)")
    parser.add_argument(
        "--report",
        metavar="DIRECTORY",
        type=Path,
        default=Path("build/benchmarks"),
        help="where report.md and report.svg are put (default: build/benchmarks)",
    )
    return parser.parse_args()


async def measure(
    server_url: str, names: list[str], scale: float, tables_file: Path | None
) -> list[Result]:
    """Run measures on one server, each in its own database."""
    results: list[Result] = []
    for name in names:
        async with scratch_database(server_url, tables_file) as url:
            bench = Bench(await database_name(url), url, scale, tables_file)
            async for result in MEASURES[name](bench):
                print(table([result]).splitlines()[2], flush=True)
                results.append(result)
    return results


async def database_name(url: str) -> str:
    """Return the products behind a database, with their versions."""
    connection = await asyncpg.connect(url)
    postgres = f"PostgreSQL {connection.get_server_version().major}"
    timescale = await connection.fetchval(
        "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    )
    await connection.close()
    return f"TimescaleDB {timescale} on {postgres}" if timescale else postgres


def main() -> None:
    """Run the benchmarks and write the report."""
    arguments = parse()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="receiver-benchmarks-") as directory:
        Path(directory).chmod(0o711)
        for server in arguments.server or [EmbeddedPostgres(Path(directory))]:
            with nullcontext(server) if isinstance(server, str) else server as found:
                url = found if isinstance(found, str) else found.url
                names = arguments.measures or list(MEASURES)
                results += asyncio.run(measure(url, names, arguments.scale, arguments.tables))
    arguments.report.mkdir(parents=True, exist_ok=True)
    (arguments.report / "report.md").write_text(table(results), encoding="utf-8")
    plot(results, arguments.report / "report.svg")
    print(f"\n{table(results)}\n{arguments.report}/report.md and report.svg hold this")


if __name__ == "__main__":
    main()
