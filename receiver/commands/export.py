"""Write a range of the logs to a CSV or Parquet file, with the names of codes and all labels.

Rows are streamed, so a range may be larger than memory. A file appears under its name when it is
whole. Parquet takes pyarrow: pip install 'receiver[parquet]'; a time after the year 294246, which
its 64 bits do not hold, is null there.

Examples:
    receiver export -o today.csv
    receiver export -o line-3.parquet --start 90d --match instance=line-3:9101
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from rich.console import Console

from receiver.commands.arguments import label, moment, past
from receiver.commands.connection import connected
from receiver.commands.terminal import say
from receiver.errors import SetupError, UsageError
from receiver.sections import Section
from receiver.settings import Settings
from receiver.storage.database import Connection
from receiver.storage.exporting import COLUMNS, Selection, copy_csv, read_batches

if TYPE_CHECKING:
    import pyarrow as pa

SETTINGS: Final = (Section.DATABASE,)
FORMATS: Final = ("csv", "parquet")
STANDARD_OUTPUT: Final = "-"


def add_arguments(parser: ArgumentParser) -> None:
    """Which rows, and where to."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="such as logs.csv or logs.parquet; - for standard output",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: as the file's name ends")
    parser.add_argument(
        "--start",
        metavar="TIME",
        type=past,
        default="1d",
        help="2026-11-01T00:00:00Z, or how long ago, such as 7d (default: 1d)",
    )
    parser.add_argument(
        "--end",
        metavar="TIME",
        type=past,
        default="0s",
        help="the same; not included (default: now)",
    )
    parser.add_argument(
        "--match",
        metavar="NAME=VALUE",
        type=label,
        action="append",
        default=[],
        help="only sources with this label; again for another one they must have too",
    )


async def run(settings: Settings, arguments: Namespace) -> int:
    """Write, and say how much.

    Raises:
        SetupError: an argument is wrong, or the file cannot be written.
    """
    kind = choose_format(arguments)
    now = datetime.now(UTC)
    selection = Selection(
        moment(arguments.start, now), moment(arguments.end, now), dict(arguments.match)
    )
    write = write_parquet if kind == "parquet" else write_csv
    if kind == "parquet":
        require_pyarrow()
    async with connected(settings) as connection:
        with opened(arguments.output) as output:
            rows = await write(connection, selection, output)
    say(Console(stderr=True), f"{rows} rows", "dim")
    return 0


def choose_format(arguments: Namespace) -> str:
    """The format that was asked for, or that the file's name says.

    Raises:
        UsageError: it says none.
    """
    kind = arguments.format or Path(arguments.output).suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise UsageError(
            f"--output={arguments.output}: must end in .csv or .parquet, or choose with --format"
        )
    return str(kind)


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends well, or standard output.

    Raises:
        SetupError: it cannot be written.
    """
    if name == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        raise SetupError(f"cannot write {name}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


async def write_csv(connection: Connection, selection: Selection, output: BinaryIO) -> int:
    """Write CSV as PostgreSQL makes it; says how many rows."""

    async def write(data: bytes) -> None:
        output.write(data)

    return await copy_csv(connection, selection, write)


async def write_parquet(connection: Connection, selection: Selection, output: BinaryIO) -> int:
    """Write Parquet, a row group at a time; says how many rows."""
    import pyarrow as pa  # noqa: PLC0415  an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    total, schema = 0, parquet_schema()
    with pq.ParquetWriter(output, schema) as writer:
        async for rows in read_batches(connection, selection):
            columns = zip(*rows, strict=True)
            arrays = [
                pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            total += len(rows)
    return total


def parquet_schema() -> pa.Schema:
    """The columns; times in microseconds, UTC."""
    import pyarrow as pa  # noqa: PLC0415  an extra

    time = pa.timestamp("us", tz="UTC")
    types = {
        **dict.fromkeys(COLUMNS, pa.string()),
        "id": pa.int64(),
        "created_at": time,
        "ocr_value": time,
        "app_status": pa.int32(),
        "source_id": pa.int32(),
    }
    return pa.schema([(name, types[name]) for name in COLUMNS])


def require_pyarrow() -> None:
    """Check that it is installed.

    Raises:
        SetupError: it is not.
    """
    if find_spec("pyarrow") is None:
        raise SetupError("Parquet takes pyarrow: pip install 'receiver[parquet]'")
