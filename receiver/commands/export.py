"""Write a range of a table to a CSV or Parquet file, with the names of codes and all labels.

Rows are streamed, so a range may be larger than memory. The file appears under its name when it is
complete. Parquet needs the package pyarrow, which the image does not have; times that are infinite
or after the year 294246, which its 64 bits cannot hold, are null. Label sets of more than 64 KiB
are left out and match nothing.

Examples:
    receiver export -o today.csv
    receiver export -o line-3.parquet --start 90d --match instance=line-3:9101
    receiver export -o presses.parquet --table press_readings
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from rich.console import Console

from receiver.commands.arguments import (
    add_match,
    add_table,
    find_table,
    moment,
    past,
    wanted_labels,
)
from receiver.commands.connection import connected
from receiver.commands.output import STANDARD_OUTPUT, opened
from receiver.commands.terminal import say
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import SetupError, UsageError
from receiver.printable import counted
from receiver.rows.tables import Table
from receiver.storage.connection.database import Connection
from receiver.storage.reading.exported import exported_fields
from receiver.storage.reading.exporting import (
    Selection,
    Sources,
    copy_csv,
    find_sources,
    read_batches,
)
from receiver.storage.reading.tables import require_table

if TYPE_CHECKING:
    import pyarrow as pa

SETTINGS: Final = (Section.DATABASE, Section.METRICS)
FORMATS: Final = ("csv", "parquet")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the table, the time range, the filter and the output."""
    add_table(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="such as logs.csv or logs.parquet; - for standard output",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="default: by the file's extension; csv for -"
    )
    parser.add_argument(
        "--start",
        metavar="TIME",
        type=past,
        default="1d",
        help="2026-11-01T00:00:00Z, or a duration before now, such as 7d (default: 1d)",
    )
    parser.add_argument(
        "--end",
        metavar="TIME",
        type=past,
        default="0s",
        help="the same, exclusive (default: now)",
    )
    add_match(parser)


async def run(settings: Settings, arguments: Namespace) -> int:
    """Write the file, and print the number of rows.

    Raises:
        SetupError: an argument is wrong, the table does not exist, or the file cannot be written.
    """
    kind = choose_format(arguments)
    selection = select(settings, arguments)
    write = write_parquet if kind == "parquet" else write_csv
    if kind == "parquet":
        require_pyarrow()
    async with connected(settings) as connection:
        await require_table(connection, selection.table.name)
        found = await find_sources(connection, selection)
        with opened(arguments.output) as output:
            rows = await write(connection, selection, output)
    say(Console(stderr=True), "".join(report(rows, selection, found)), "dim")
    return 0


def select(settings: Settings, arguments: Namespace) -> Selection:
    """Return the selected rows.

    Raises:
        UsageError: no such table is declared, the start is not before the end, or a label is
            matched twice.
    """
    table = find_table(settings, arguments.table)
    now = datetime.now(UTC)
    start, end = (moment(text, now) for text in (arguments.start, arguments.end))
    if start >= end:
        times = f"--start ({start.isoformat()}) must lie before --end ({end.isoformat()})"
        raise UsageError(times)
    return Selection(table, start, end, wanted_labels(arguments))


def report(rows: int, selection: Selection, found: Sources) -> Iterator[str]:
    """Yield the number of rows, and why it may be less than expected."""
    yield counted(rows, "row")
    if not found.matching:
        wanted = " and ".join(f"{name}={value}" for name, value in selection.labels.items())
        yield f": no source has {wanted}" if wanted else ": there are no sources"
    elif not rows:
        yield f" from {selection.start.isoformat()} to {selection.end.isoformat()}"
    if found.large:
        yield f"; {counted(found.large, 'source')} with labels of more than 64 KiB left out"


def choose_format(arguments: Namespace) -> str:
    """Return the chosen format, or the one of the file name's extension; csv on standard output.

    Raises:
        UsageError: the extension is unknown.
    """
    suffix = Path(arguments.output).suffix.removeprefix(".").lower()
    kind = arguments.format or ("csv" if arguments.output == STANDARD_OUTPUT else suffix)
    if kind not in FORMATS:
        raise UsageError(
            f"--output={arguments.output}: must end in .csv or .parquet, or choose with --format"
        )
    return str(kind)


async def write_csv(connection: Connection, selection: Selection, output: BinaryIO) -> int:
    """Write CSV by PostgreSQL's COPY; return the number of rows."""
    return await copy_csv(connection, selection, output.write)


async def write_parquet(connection: Connection, selection: Selection, output: BinaryIO) -> int:
    """Write Parquet, a row group at a time; return the number of rows."""
    import pyarrow as pa  # noqa: PLC0415  an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    total, schema = 0, parquet_schema(selection.table)
    with pq.ParquetWriter(output, schema) as writer:
        async with aclosing(read_batches(connection, selection)) as batches:
            async for rows in batches:
                columns = zip(*rows, strict=True)
                arrays = [
                    pa.array(column, field.type)
                    for column, field in zip(columns, schema, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                total += len(rows)
    return total


def parquet_schema(table: Table) -> pa.Schema:
    """Return the schema of Parquet files; times are in microseconds, UTC."""
    import pyarrow as pa  # noqa: PLC0415  an extra

    types = {
        "bigint": pa.int64(),
        "integer": pa.int32(),
        "double precision": pa.float64(),
        "boolean": pa.bool_(),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        "text": pa.string(),
    }
    return pa.schema([(field.name, types[field.type]) for field in exported_fields(table)])


def require_pyarrow() -> None:
    """Check that pyarrow is installed.

    Raises:
        SetupError: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise SetupError(
            "Parquet needs the package pyarrow: `pip install 'receiver[parquet]'`; CSV needs no "
            "package"
        )
