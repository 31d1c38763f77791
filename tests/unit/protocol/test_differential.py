"""Whatever a decoder has seen before, it reads the same as protobuf's own parser."""

from __future__ import annotations

import pytest

from receiver.protocol.series import SeriesCache
from receiver.protocol.v1 import Decoder
from tests.fuzz.differential import VERSIONS, Version, compare
from tests.fuzz.mutations import encode, parse
from tests.meanings import KEPT, SHARING, meaning, read_older
from tests.messages import NOW, encoded_timestamp, field, framed, series, varint, write_request

versions = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


@versions
def test_mutations_mean_what_protobuf_says(version: Version) -> None:
    compare(version, mutations=3000, seed=1)


@versions
def test_mutations_mean_the_same_where_few_series_are_read_at_once(version: Version) -> None:
    compare(version, mutations=3000, seed=2, at_once=True)


@versions
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "usual"])
def test_mutations_mean_the_same_where_metrics_feed_several_tables(
    version: Version, at_once: bool
) -> None:
    compare(version, mutations=1000, seed=3, at_once=at_once, catalogue=SHARING)


@versions
def test_what_is_mutated_is_read_field_by_field(version: Version) -> None:
    for original in version.originals:
        assert encode(parse(original, version.schema)) == original


@pytest.mark.parametrize(
    "filler",
    [
        pytest.param(varint(3 << 3) + b"\5", id="a number"),
        pytest.param(field(3, b""), id="an exemplar"),
        pytest.param(field(2, b""), id="another sample"),
        pytest.param(field(1, b""), id="a label"),
        pytest.param(b"\xff\xff", id="no field"),
    ],
)
def test_a_sample_and_a_bare_timestamp_are_no_sample_with_a_value(filler: bytes) -> None:
    """Both end alike, and what comes before the one and the other is the same known series."""
    labels = {"__name__": "app_status", "instance": "a"}
    usual = write_request(series(labels, (0.0, NOW)))
    unusual = framed(
        series(labels, (0.0, NOW)).SerializeToString() + filler + encoded_timestamp(NOW)
    )
    decoder = Decoder(SeriesCache(KEPT, 2**20))
    for message in (usual, usual, unusual, usual, unusual):
        assert meaning(decoder, message) == read_older(message)
