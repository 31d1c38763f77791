"""Requests captured from real senders, replayed into a real database."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest
import snappy

from receiver.clients.capture import CapturedRequest, read_capture
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from receiver.protocol.generated.remote_write_v2_pb2 import Request
from tests.conftest import MakeSettings
from tests.receivers import receiving

FILES = sorted((Path(__file__).parents[1] / "payloads").glob("*.jsonl"))

Source = frozenset[tuple[str, str]]
Row = tuple[Source, int, float, float]
"""Labels, timestamp in milliseconds, status, OCR value."""


def source(labels: Mapping[str, str]) -> Source:
    return frozenset(labels.items())


def is_v2(request: CapturedRequest) -> bool:
    return "proto=io.prometheus.write.v2.Request" in request.headers["Content-Type"]


def decode(request: CapturedRequest) -> WriteRequest | Request:
    message = bytes(snappy.uncompress(request.body))
    return Request.FromString(message) if is_v2(request) else WriteRequest.FromString(message)


def samples(request: CapturedRequest) -> Iterator[tuple[dict[str, str], int, float]]:
    """Yield every sample, decoded by protobuf."""
    message = decode(request)
    if isinstance(message, Request):
        for series in message.timeseries:
            texts = [message.symbols[ref] for ref in series.labels_refs]
            for sample in series.samples:
                labels = dict(zip(texts[::2], texts[1::2], strict=True))
                yield labels, sample.timestamp, sample.value
    else:
        for old in message.timeseries:
            for point in old.samples:
                labels = {label.name: label.value for label in old.labels}
                yield labels, point.timestamp, point.value


def expected_headers(request: CapturedRequest) -> dict[str, str]:
    """Return the expected headers (2.0, "Required Written Response Headers")."""
    if not is_v2(request):
        return {}
    content = decode(request).timeseries
    counts = {
        "Samples": sum(len(series.samples) for series in content),
        "Histograms": sum(len(series.histograms) for series in content),
        "Exemplars": sum(len(series.exemplars) for series in content),
    }
    return {f"X-Prometheus-Remote-Write-{kind}-Written": str(n) for kind, n in counts.items()}


def expected_rows(requests: Iterable[CapturedRequest]) -> set[Row]:
    """Return the row of each pair of samples."""
    pairs: dict[tuple[Source, int], dict[str, float]] = defaultdict(dict)
    for request in requests:
        for labels, timestamp, value in samples(request):
            name = labels.pop("__name__")
            if name in {"app_status", "ocr_value"} and not math.isnan(value):
                pairs[source(labels), timestamp][name] = value
    return {
        (*key, pair["app_status"], round(pair["ocr_value"], 6))
        for key, pair in pairs.items()
        if len(pair) == 2
    }


def test_there_are_payloads_of_both_messages() -> None:
    assert {is_v2(request) for file in FILES for request in read_capture(file)} == {False, True}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_captured_requests_become_their_rows(
    file: Path, database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    requests = list(read_capture(file))
    expected = expected_rows(requests)
    assert expected
    async with receiving(make_settings(database_url=database_url)) as receiver:
        for _ in range(2):
            for request in requests:
                async with receiver.session.post(
                    receiver.url(), data=request.body, headers=request.headers
                ) as response:
                    assert response.status == 204, await response.text()
                    written = {
                        name: value for name, value in response.headers.items() if "Written" in name
                    }
                    assert written == expected_headers(request)
    rows = await connection.fetch(
        "SELECT s.labels, l.* FROM app_logs l JOIN sources s ON s.id = l.source_id"
    )
    left = await connection.fetch("SELECT FROM pending_rows UNION ALL SELECT FROM rejected_samples")
    found = {
        (
            source(json.loads(row["labels"])),
            round(row["created_at"].timestamp() * 1000),
            row["app_status"],
            row["ocr_value"].timestamp(),
        )
        for row in rows
    }
    assert found == expected
    assert len(rows) == len(expected)
    assert not left
