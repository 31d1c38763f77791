"""Compares the decoders with protobuf's own parser, on requests that are nearly valid.

Pytest runs a small number of mutations. To run more:

    python -m tests.fuzz.differential --mutations 150000 --seed 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from random import Random
from typing import Final, NamedTuple
from unittest.mock import patch

from receiver.errors import BadRequestError
from receiver.protocol import ahead, orders, reading, sequences, strips, symbols, v1, v2, wire
from receiver.protocol.generated.remote_write_v2_pb2 import Exemplar, Request, TimeSeries
from receiver.protocol.series import SeriesCache
from receiver.rows.tables import Catalogue
from tests.fuzz.mutations import V1, V2, Mutator, Schema
from tests.meanings import KEPT, SHARING, Meaning, meaning, read_newer, read_older
from tests.messages import NOW, Request2, series, with_start, write_request

CACHE_SIZE: Final = 2**20
LABELS: Final = (
    {"__name__": "app_status", "instance": "a"},
    {"__name__": "ocr_value", "instance": "a"},
    {"__name__": "up", "instance": "a"},
    {"__name__": "app_status"},
    {"__name__": "up"},
    # Bytes of a usual sample, so that pieces of samples occur at the ends of labels.
    {"__name__": "app_status", "z": "\x12\x07\x10"},
    {"__name__": "app_status", "z": "\x12\x10\t"},
    {"__name__": "ocr_value", "z": "é\t\x07"},
)
VALUES: Final = (0.0, 1.0, -0.0, NOW / 1000)


class Version(NamedTuple):
    """One protocol version: its decoder, its example requests, and their reference meaning."""

    decoder: Callable[[SeriesCache], v1.Decoder | v2.Decoder]
    read: Callable[[bytes, Catalogue], Meaning | None]
    schema: Schema
    originals: list[bytes]
    rename: Callable[[bytes, int], bytes]
    """Returns the same request with its symbols in another order."""


def older_requests() -> list[bytes]:
    """Return requests as 1.0 senders make them."""
    each = [write_request(series(labels, (value, NOW))) for labels in LABELS for value in VALUES]
    many = [
        write_request(*(series(labels, (value, NOW + later)) for labels in LABELS))
        for later, value in enumerate(VALUES)
    ]
    several = write_request(*(series(one, (0.0, NOW), (1.0, NOW + 1)) for one in LABELS[:3]))
    return [*each, *many, several]


def newer_requests() -> list[bytes]:
    """Return requests as 2.0 senders make them, with every kind of content."""
    found = []
    for value in VALUES:
        for described in (False, True):
            request = Request2()
            for later, labels in enumerate(LABELS):
                one = request.add(labels, (value, NOW + later % 2))
                if described:
                    one.metadata.type, one.metadata.help_ref = 2, request.ref("Help.")
            found.append(request.encoded())
    request = Request2()
    with_start(request.add(LABELS[0], (1.0, NOW), (0.0, NOW + 1)).samples[0], NOW)
    histogram = request.add(LABELS[2]).histograms.add(count_int=3, zero_count_int=1)
    histogram.positive_spans.add(offset=1, length=2)
    histogram.positive_deltas.extend([1, 0])
    exemplar = request.add(LABELS[1], (1.0, NOW)).exemplars.add(value=1, timestamp=NOW)
    exemplar.labels_refs.extend(request.refs([("trace_id", "x")]))
    return [*found, request.encoded()]


def with_other_symbols(message: bytes, seed: int) -> bytes:
    """Return the same 2.0 request with its symbols in another order and mixed with others."""
    request = Request.FromString(message)
    texts = [*request.symbols[1:], *(f"other {number}" for number in range(seed % 3 * 70))]
    Random(seed).shuffle(texts)
    refs = {text: ref for ref, text in enumerate(texts, 1)} | {"": 0}
    new = [refs[text] for text in request.symbols]
    for one in request.timeseries:
        holders: list[TimeSeries | Exemplar] = [one, *one.exemplars]
        for holder in holders:
            holder.labels_refs[:] = [new[ref] for ref in holder.labels_refs]
        if one.HasField("metadata"):
            one.metadata.help_ref = new[one.metadata.help_ref]
            one.metadata.unit_ref = new[one.metadata.unit_ref]
    request.symbols[:] = ["", *texts]
    return request.SerializeToString()


VERSIONS: Final = {
    "1.0": Version(v1.Decoder, read_older, V1, older_requests(), lambda one, _: one),
    "2.0": Version(v2.Decoder, read_newer, V2, newer_requests(), with_other_symbols),
}


@contextmanager
def small_parts(decoder: v1.Decoder | v2.Decoder) -> Iterator[None]:
    """Make a decoder read every message part by part, as if it were large."""
    with (
        patch.object(decoder, "whole", 8),
        patch.object(wire, "PART", 24),
        patch.object(symbols, "PART", 24),
        patch.object(wire, "MAX_FIELDS", 3),
        patch.object(reading, "LONG", 12),
    ):
        yield


def compare(
    version: Version,
    mutations: int,
    seed: int,
    *,
    at_once: bool = False,
    catalogue: Catalogue = KEPT,
) -> None:
    """Decode mutations and compare the results with protobuf's.

    Args:
        version: Which message to mutate.
        mutations: Number of mutations.
        seed: Seed of the mutations.
        at_once: Whether to check and recognize even a few series in bulk.
        catalogue: Declares which series are kept.

    Raises:
        AssertionError: a decoder disagrees with protobuf.
    """
    with few_at_once() if at_once else nullcontext():
        decode_mutations(version, mutations, seed, catalogue)


@contextmanager
def few_at_once() -> Iterator[None]:
    """Make decoders check few series, and compare them with earlier ones, as if they were many."""
    with (
        patch.object(v2, "FEW", 1),
        patch.object(sequences, "MIN_SIZE", 1),
        patch.object(sequences, "TRIES", 6),
        patch.object(sequences, "MAX_PAUSE", 1),
        patch.object(strips, "BLOCK", 16),
        patch.object(ahead, "MIN_SIZE", 1),
        patch.object(ahead, "MAX_PAUSE", 0),
        patch.object(orders, "DISTANCE", 2),
        patch.object(orders, "STRAYS", 2),
        patch.object(orders, "LEAST", 2),
        patch.object(orders, "MAX_PAUSE", 0),
    ):
        yield


def decode_mutations(version: Version, mutations: int, seed: int, catalogue: Catalogue) -> None:
    """Decode mutations with decoders of different previous knowledge, and compare."""
    cache = SeriesCache(catalogue, CACHE_SIZE)
    warm = version.decoder(cache)
    mutator = Mutator(seed, version.schema, version.originals)
    for original, mutation in mutator.mutations(mutations):
        for _ in range(3):
            warm.decode(original)
        expected = version.read(mutation, catalogue)
        cold = version.decoder(SeriesCache(catalogue, CACHE_SIZE))
        # Knows the series, but not the symbols.
        fresh = version.decoder(cache)
        ordered = knowing_order(version, cache, original, seed)
        for kind, decoder in (
            ("cold", cold),
            ("again", cold),
            ("fresh", fresh),
            ("ordered", ordered),
            ("warm", warm),
            ("warmer", warm),
        ):
            assert read(decoder, mutation) == expected, (kind, original.hex(), mutation.hex())
        with small_parts(warm):
            assert read(warm, mutation) == expected, ("parts", original.hex(), mutation.hex())


def knowing_order(
    version: Version, cache: SeriesCache, original: bytes, seed: int
) -> v1.Decoder | v2.Decoder:
    """Return a decoder that knows the order of a request's series, but not its symbols."""
    decoder = version.decoder(cache)
    for turn in range(2):
        decoder.decode(version.rename(original, seed + turn))
    return decoder


def read(decoder: v1.Decoder | v2.Decoder, message: bytes) -> Meaning | None:
    """Return the meaning of a message as a decoder reads it, None if it refuses the message."""
    try:
        return meaning(decoder, message)
    except BadRequestError:
        return None


def main() -> None:
    """Run the comparison with command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=150_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for name, version in VERSIONS.items():
        for at_once, catalogue in product((True, False), (KEPT, SHARING)):
            compare(
                version, arguments.mutations, arguments.seed, at_once=at_once, catalogue=catalogue
            )
        print(f"{name}: {arguments.mutations} mutations mean what protobuf says")  # noqa: T201


if __name__ == "__main__":
    main()
