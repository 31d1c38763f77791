"""Builds remote-read requests and decodes their responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import aiohttp
import google_crc32c
import snappy

from receiver.http.paths import READ
from receiver.protocol.generated import remote_read_pb2 as messages
from tests import xor_chunks
from tests.receivers import Running

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Read-Version": "0.1.0",
}
TYPES = messages.LabelMatcher
OPERATORS = {"=": TYPES.EQ, "!=": TYPES.NEQ, "=~": TYPES.RE, "!~": TYPES.NRE}
STREAMED = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"

Labels = tuple[tuple[str, str], ...]
Result = list[tuple[Labels, list[xor_chunks.Sample]]]
"""The series of a query in order, each with its samples."""


def query(
    *matchers: tuple[str, str, str],
    start: int = -(2**63),
    end: int = 2**63 - 1,
    hints: messages.ReadHints | None = None,
) -> messages.Query:
    """Build a query; a matcher is a label name, a PromQL operator and a value."""
    return messages.Query(
        start_timestamp_ms=start,
        end_timestamp_ms=end,
        matchers=[
            TYPES(type=OPERATORS[operator], name=name, value=value)
            for name, operator, value in matchers
        ],
        hints=hints,
    )


def named(name: str) -> messages.Query:
    """Build a query for all samples of a metric."""
    return query(("__name__", "=", name))


def request(*queries: messages.Query, streamed: bool = False) -> bytes:
    """Encode the body of a request."""
    types = [messages.STREAMED_XOR_CHUNKS, messages.SAMPLES] if streamed else []
    message = messages.ReadRequest(queries=queries, accepted_response_types=types)
    return bytes(snappy.compress(message.SerializeToString()))


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def results(self, count: int = 1) -> list[Result]:
        """Return the result of each query, for either response type."""
        assert self.status == 200, self.body
        if self.headers["Content-Type"] == STREAMED:
            return decode_frames(self.body, count)
        assert self.headers["Content-Encoding"] == "snappy"
        return decode_samples(self.body)


def decode_samples(body: bytes) -> list[Result]:
    response = messages.ReadResponse.FromString(bytes(snappy.uncompress(body)))
    return [
        [
            (labels_of(series.labels), [(point.timestamp, point.value) for point in series.samples])
            for series in result.timeseries
        ]
        for result in response.results
    ]


def decode_frames(body: bytes, count: int) -> list[Result]:
    results: list[Result] = [[] for _ in range(count)]
    for frame in split_frames(body):
        response = messages.ChunkedReadResponse.FromString(frame)
        (series,) = response.chunked_series
        labels = labels_of(series.labels)
        result = results[response.query_index]
        # Prometheus takes two frames as two series, even if their labels are equal.
        assert labels not in [known for known, _ in result]
        result.append((labels, []))
        for chunk in series.chunks:
            assert chunk.type == messages.Chunk.XOR
            samples = xor_chunks.decode(chunk.data)
            assert 1 <= len(samples) <= 120
            assert (chunk.min_time_ms, chunk.max_time_ms) == (samples[0][0], samples[-1][0])
            result[-1][1].extend(samples)
    return results


def split_frames(body: bytes) -> Iterable[bytes]:
    place = 0
    while place < len(body):
        size = shift = 0
        while True:
            byte = body[place]
            place += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        checksum = int.from_bytes(body[place : place + 4], "big")
        frame = body[place + 4 : place + 4 + size]
        assert len(frame) == size
        assert google_crc32c.value(frame) == checksum
        place += 4 + size
        yield frame


def labels_of(labels: Iterable[messages.Label]) -> Labels:
    return tuple((label.name, label.value) for label in labels)


async def read(receiver: Running, body: bytes, **headers: str) -> Answer:
    """Send a read request; header names are given with underscores."""
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        # With decompression, the client would refuse an encoding that it does not know.
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(receiver.url(READ), data=body, headers={**HEADERS, **changed}) as response,
    ):
        return Answer(response.status, response.headers, await response.read())
