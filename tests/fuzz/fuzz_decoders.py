"""Feeds bytes to the code that reads a request before the database; only 4xx errors may result.

Coverage-guided fuzzing needs atheris, which is not among the development dependencies:

    pip install atheris --editable .
    python tests/fuzz/fuzz_decoders.py [CORPUS_DIRECTORY] [-max_total_time=60] [-runs=1000000]

All options are libFuzzer's; findings are kept in the directory, if one is given. The first byte of
an input says how to read the rest, see `take_apart`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Final

import snappy
from multidict import CIMultiDict

from receiver.errors import ReceiverError
from receiver.protocol import v1, v2
from receiver.protocol.compression import check_size, decompress
from receiver.protocol.generated import remote_write_v1_pb2 as older
from receiver.protocol.generated import remote_write_v2_pb2 as newer
from receiver.protocol.negotiation import Message, negotiate
from receiver.protocol.series import SeriesCache
from tests.meanings import SHARING

Decoders = Mapping[Message, v1.Decoder | v2.Decoder]

LIMIT: Final = 2**20
NOW: Final = 1_700_000_000_000

# Bits of the first byte.
OF_V2: Final = 1
COMPRESSED: Final = 2
WITH_TYPE: Final = 4


def take_apart(data: bytes) -> tuple[CIMultiDict[str], bytes]:
    """Return the headers and the body that an input encodes.

    The flags in its first byte say which message the headers declare, whether the body is already
    compressed, and whether a content type precedes it, up to a line feed.
    """
    flags, rest = data[0] if data else 0, data[1:]
    content_type = "application/x-protobuf"
    if flags & OF_V2:
        content_type += ";proto=io.prometheus.write.v2.Request"
    if flags & WITH_TYPE:
        line, _, rest = rest.partition(b"\n")
        content_type = line.decode("latin-1")
    body = rest if flags & COMPRESSED else bytes(snappy.compress(rest))
    headers = {"Content-Type": content_type, "Content-Encoding": "snappy"}
    return CIMultiDict(headers), body


def seeds() -> Iterator[bytes]:
    """Yield the initial corpus: whole requests of both versions."""
    first = older.WriteRequest(
        timeseries=[
            {
                "labels": [{"name": "__name__", "value": name}, {"name": "job", "value": "x"}],
                "samples": [{"value": value, "timestamp": NOW} for value in (0, 1)],
            }
            for name in ("app_status", "ocr_value", "up")
        ]
    ).SerializeToString()
    histogram = newer.Histogram(
        count_int=3,
        zero_count_int=1,
        positive_spans=[{"offset": 1, "length": 2}],
        positive_deltas=[1, 0],
    )
    second = newer.Request(
        symbols=["", "__name__", "app_status", "up", "trace_id", "x"],
        timeseries=[
            {
                "labels_refs": [1, 2],
                "samples": [{"value": 1, "timestamp": NOW}],
                "exemplars": [{"labels_refs": [4, 5], "value": 1, "timestamp": NOW}],
                "metadata": {"type": 2, "help_ref": 5, "unit_ref": 0},
            },
            {"labels_refs": [1, 3, 4, 5], "histograms": [histogram]},
        ],
    ).SerializeToString()
    for flags, message in ((0, first), (OF_V2, second)):
        yield bytes([flags]) + message
        yield bytes([flags | COMPRESSED]) + bytes(snappy.compress(message))
    content_type = b'application/x-protobuf; proto="io.prometheus.write.v2.Request"\n'
    yield bytes([WITH_TYPE]) + content_type + second


def build_decoders() -> Decoders:
    """Build a decoder for each message type, with a shared cache small enough to overflow."""
    series = SeriesCache(SHARING, 2**14)
    return {Message.V1: v1.Decoder(series), Message.V2: v2.Decoder(series)}


def read(data: bytes, decoders: Decoders) -> None:
    """Read one input; raise any error that is not the sender's fault."""
    headers, body = take_apart(data)
    try:
        message = negotiate(headers)
        check_size(body, LIMIT)
        decoded = decoders[message].decode(decompress(body))
    except ReceiverError as error:
        if not HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
    else:
        assert decoded.kept <= decoded.received
        assert decoded.kept <= len(decoded.samples) <= len(SHARING.tables) * decoded.kept
        assert decoded.faults.invalid <= decoded.faults.total


def own_functions() -> Iterator[FunctionType]:
    """Yield every loaded function and method of the receiver."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "receiver":
            owners = [found for found in vars(module).values() if isinstance(found, type)]
            for found in (value for owner in (module, *owners) for value in vars(owner).values()):
                if isinstance(found, FunctionType) and found.__module__ == name:
                    yield found


def main() -> None:
    """Fuzz until a failure is found or libFuzzer's limits are reached."""
    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415

    for function in own_functions():
        atheris.instrument_func(function)
    decoders = build_decoders()
    with TemporaryDirectory() as directory:
        for number, seed in enumerate(seeds()):
            (Path(directory) / str(number)).write_bytes(seed)
        # libFuzzer writes to the first directory, so a given one comes before the seeds.
        atheris.Setup([*sys.argv, directory], lambda data: read(data, decoders))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
