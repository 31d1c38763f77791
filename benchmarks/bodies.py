"""Makes request bodies like those of Prometheus: targets with eleven labels, scrape by scrape."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final

import snappy

from receiver.protocol.generated import remote_write_v2_pb2 as v2
from receiver.protocol.generated.remote_write_v1_pb2 import Sample, WriteRequest
from receiver.rows.tables import Column, Table

INTERVAL: Final = 5_000
"""Milliseconds between two scrapes."""
START: Final = int(time.time() * 1000) // INTERVAL * INTERVAL
"""Timestamp of the first scrape, in milliseconds since the Unix epoch: close to the present, as
senders have it, since late rows take longer."""
OCR_DELAY_MS: Final = 1_250
WIDEST: Final = ("double precision", "timestamptz", "bigint", "integer", "boolean")
"""Column types, from the one that accepts the most values to the one that accepts the fewest."""
V1_HEADERS: Final = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
V2_HEADERS: Final = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}

Labels = dict[str, str]
Point = tuple[Labels, int, float]
"""Labels with `__name__`, timestamp in milliseconds, value."""


def labels(name: str, target: int) -> Labels:
    """Return eleven labels, as service discovery adds them."""
    return {
        "__name__": name,
        "app": "line-inspection",
        "cluster": "factory-2",
        "container": "inspector",
        "endpoint": "metrics",
        "instance": f"10.20.{target // 250}.{target % 250}:9101",
        "job": "application",
        "namespace": "production",
        "node": f"node-{target % 40:02d}.factory.example",
        "pod": f"inspector-7d9f5c6b{target:05d}",
        "service": "inspector",
    }


def status_of(target: int, scrape: int) -> int:
    """Return the error code of a target at a scrape."""
    return (target + scrape) % 3


def value_of(column: Column, target: int, scrape: int) -> float:
    """Return a value that a column accepts and that varies by scrape."""
    if column.type.sql == "timestamptz":
        # The difference of two values gives the unit, which need not be known.
        unit: int = column.read(2.0) - column.read(1.0)
        return (START + scrape * INTERVAL - OCR_DELAY_MS) * 1000 / unit
    if column.type.sql == "double precision":
        return 20.0 + status_of(target, scrape) / 7 + scrape / 1024
    if column.type.sql == "bigint":
        return float(1_000 * scrape + target)
    return float(status_of(target, scrape) % (2 if column.type.sql == "boolean" else 3))


def metrics_of(tables: Sequence[Table]) -> dict[str, Column]:
    """Map each metric to its column; if several share it, to the one that accepts fewest values."""
    columns = [column for table in tables for column in table.columns]
    columns.sort(key=lambda column: WIDEST.index(column.type.sql))
    return {column.metric: column for column in columns}


def row(columns: Mapping[str, Column], target: int, scrape: int) -> list[Point]:
    """Return the samples of a target at a scrape, one per metric."""
    timestamp = START + scrape * INTERVAL
    return [
        (labels(metric, target), timestamp, value_of(column, target, scrape))
        for metric, column in columns.items()
    ]


def rows(tables: Sequence[Table], targets: int, scrapes: Iterable[int]) -> Iterator[Point]:
    """Return the samples of all targets, scrape by scrape, in the order of a write-ahead log."""
    columns = metrics_of(tables)
    return chain.from_iterable(
        row(columns, target, scrape) for scrape in scrapes for target in range(targets)
    )


def unrelated(series: int, scrape: int) -> Iterator[Point]:
    """Yield samples of series that the receiver filters."""
    for number in range(series):
        name = f"http_request_duration_seconds_bucket_{number % 97}"
        yield labels(name, number), START + scrape * INTERVAL, number * 0.37 + scrape


def mixed(tables: Sequence[Table], series: int, kept: int, scrape: int) -> list[Point]:
    """Return samples of `series` series, of which `kept`, evenly spread, belong to rows."""
    points = list(unrelated(series - kept, scrape))
    wanted = list(islice(rows(tables, kept, [scrape]), kept))
    distance = max(1, series // max(1, kept))
    for place, point in enumerate(wanted):
        points.insert(place * distance, point)
    return points


def batches(points: Iterable[Point], size: int) -> Iterator[list[Point]]:
    """Yield the points in lists of `size`; the last list may be shorter."""
    batch: list[Point] = []
    for point in points:
        batch.append(point)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def message_v1(points: Iterable[Point]) -> bytes:
    """Encode a `prometheus.WriteRequest` with one sample per series."""
    request = WriteRequest()
    for by_name, timestamp, value in points:
        series = request.timeseries.add()
        for name, text in by_name.items():
            series.labels.add(name=name, value=text)
        series.samples.add(value=value, timestamp=timestamp)
    return request.SerializeToString()


def message_v2(points: Iterable[Point]) -> bytes:
    """Encode an `io.prometheus.write.v2.Request` with one sample per series.

    Each series has metadata, empty as Prometheus sends them without a feature flag. Symbols are
    numbered in the order of their first use.
    """
    refs = {"": 0}
    request = v2.Request()
    for by_name, timestamp, value in points:
        request.timeseries.add(
            labels_refs=[refs.setdefault(text, len(refs)) for text in chain(*by_name.items())],
            samples=[v2.Sample(value=value, timestamp=timestamp)],
            metadata=v2.Metadata(),
        )
    request.symbols.extend(refs)
    return request.SerializeToString()


def later(message: bytes, scrapes: int) -> bytes:
    """Move a message of the first scrape to a later one; much faster than encoding it anew."""
    before, after = (
        Sample(timestamp=START + scrape * INTERVAL).SerializeToString() for scrape in (0, scrapes)
    )
    return message.replace(before, after)


def body(message: bytes) -> bytes:
    """Compress a message, as it is sent."""
    return bytes(snappy.compress(message))
