"""Requests captured from real senders, replayed into a real database."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import snappy

from receiver.capture import CapturedRequest, read_capture
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from tests.conftest import MakeSettings
from tests.receivers import receiving

FILES = sorted((Path(__file__).parents[1] / "payloads").glob("*.jsonl"))


def samples(request: CapturedRequest) -> Iterator[tuple[dict[str, str], int, float]]:
    """Every sample, decoded in the plainest way."""
    message = WriteRequest.FromString(bytes(snappy.uncompress(request.body)))
    for series in message.timeseries:
        labels = {label.name: label.value for label in series.labels}
        for sample in series.samples:
            yield labels, sample.timestamp, sample.value


def expected_rows(requests: list[CapturedRequest]) -> set[tuple[str, int, float, float]]:
    """Instance, timestamp, status and OCR value of each pair."""
    pairs: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for request in requests:
        for labels, timestamp, value in samples(request):
            if labels["__name__"] in {"app_status", "ocr_value"} and not math.isnan(value):
                pairs[labels["instance"], timestamp][labels["__name__"]] = value
    return {
        (instance, timestamp, pair["app_status"], pair["ocr_value"])
        for (instance, timestamp), pair in pairs.items()
        if len(pair) == 2
    }


def test_there_are_payloads() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_captured_requests_become_their_rows(
    file: Path, database_url: str, make_settings: MakeSettings
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
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        "SELECT s.labels ->> 'instance' AS instance, l.* "
        "FROM app_logs l JOIN sources s ON s.id = l.source_id"
    )
    left = await connection.fetch(
        "SELECT FROM pending_halves UNION ALL SELECT FROM rejected_samples"
    )
    await connection.close()
    found = {
        (
            row["instance"],
            round(row["created_at"].timestamp() * 1000),
            row["app_status"],
            row["ocr_value"].timestamp(),
        )
        for row in rows
    }
    assert {(*key, round(ocr, 6)) for *key, ocr in expected} == found
    assert len(rows) == len(expected)
    assert not left
