"""The meaning of requests: by our decoders, and by a reference reading with protobuf's parser."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from receiver.config.catalogue import built_in
from receiver.protocol import v1, v2
from receiver.protocol.generated import remote_write_v1_pb2 as older
from receiver.protocol.generated import remote_write_v2_pb2 as newer
from receiver.rows.columns import CODE, DOUBLE
from receiver.rows.model import Labels
from receiver.rows.tables import Catalogue, Column, Table
from tests.messages import bits

KEPT: Final = built_in()
"""The catalogue without declared tables."""

Place = tuple[str, str]
"""A table and one of its columns."""
STATUS_COLUMN: Final[Place] = ("app_logs", "app_status")
OCR_COLUMN: Final[Place] = ("app_logs", "ocr_value")

SHARING: Final = Catalogue(
    [
        Table("everything", [Column("status", "app_status", DOUBLE)]),
        Table(
            "of_a",
            [Column("up", "up", CODE), Column("status", "app_status", CODE, required=False)],
            match={"instance": "a", "nothing": ""},
        ),
        Table(
            "less",
            [Column("ocr", "ocr_value", DOUBLE), Column("status", "app_status", DOUBLE)],
            match={"z": "|.*é.*|\x12\x07.*"},
            ignoring=frozenset({"z", "__name__"}),
        ),
    ]
)
"""A catalogue whose metrics feed several tables, each from some of their series only."""

KeptSample = tuple[Place, Labels, int, int]
"""Table and column, labels, timestamp, and the bits of the value."""

LabelList = list[tuple[str, str]]


class Meaning(NamedTuple):
    samples: Counter[KeptSample]
    received: int = 0
    histograms: int = 0
    exemplars: int = 0
    invalid: int = 0
    total: int = 0
    kept: int = 0


def meaning(decoder: v1.Decoder | v2.Decoder, message: bytes) -> Meaning:
    """Return the meaning of a message as a decoder reads it."""
    request = decoder.decode(message)
    samples = Counter(
        ((kept.source.table.name, kept.column.name), kept.source.labels, timestamp, bits(value))
        for kept, timestamp, value in request.samples
    )
    counts = request.received, request.histograms, request.exemplars
    return Meaning(samples, *counts, *request.faults[:2], request.kept)


def belongings(catalogue: Catalogue, by_name: dict[str, str]) -> Iterator[tuple[Place, Labels]]:
    """Yield the columns that the catalogue assigns to a valid series, and its labels there."""
    labels = {name: value for name, value in by_name.items() if name != "__name__"}
    for table in catalogue.tables:
        if not all(
            re.fullmatch(expression, labels.get(name, ""), re.DOTALL)
            for name, expression in table.match.items()
        ):
            continue
        telling = tuple(sorted((k, v) for k, v in labels.items() if k not in table.ignoring))
        for column in table.columns:
            if column.metric == by_name["__name__"]:
                yield (table.name, column.name), telling


def read_older(message: bytes, catalogue: Catalogue = KEPT) -> Meaning | None:
    """Return the meaning of a 1.0 request, read without shortcuts; None if it is not one.

    Where the whole parses, it is parsed whole; else each of its series is invalid or not.
    """
    try:
        frame = older.WriteRequestFrame.FromString(message)
    except DecodeError:
        return None
    if message and not (frame.timeseries or frame.metadata):
        return None
    try:
        content: list[older.TimeSeries | None] = list(
            older.WriteRequest.FromString(message).timeseries
        )
    except DecodeError:
        content = []
        for data in frame.timeseries:
            try:
                content.append(older.TimeSeries.FromString(data))
            except DecodeError:
                content.append(None)
        assert None in content
    labels = [
        [(label.name, label.value) for label in one.labels] if one else None for one in content
    ]
    return add_up(content, labels, catalogue)


def check_older(decoder: v1.Decoder, message: bytes) -> None:
    """Check that a decoder reads a request of 1.0 as `read_older` does."""
    expected = read_older(message)
    assert expected is not None
    assert meaning(decoder, message) == expected


def read_newer(message: bytes, catalogue: Catalogue = KEPT) -> Meaning | None:
    """Return the meaning of a 2.0 request, read without shortcuts; None if it is not one."""
    try:
        frame = newer.RequestFrame.FromString(message)
    except DecodeError:
        return None
    if message and frame.symbols[:1] != [""]:
        return None
    try:
        content: list[newer.TimeSeries | None] = list(newer.Request.FromString(message).timeseries)
    except DecodeError:
        content = []
        for data in frame.timeseries:
            try:
                content.append(newer.TimeSeries.FromString(data))
            except DecodeError:
                content.append(None)
        assert None in content
    labels = [
        plain_labels(one.labels_refs, frame.symbols)
        if one and plainly_valid(one, frame.symbols)
        else None
        for one in content
    ]
    return add_up(content, labels, catalogue)


def add_up(
    content: Sequence[older.TimeSeries | newer.TimeSeries | None],
    labels: Sequence[LabelList | None],
    catalogue: Catalogue,
) -> Meaning:
    """Return the meaning of series with these labels; None stands for an invalid series."""
    samples = Counter[KeptSample]()
    kept = received = histograms = exemplars = invalid = 0
    for one, pairs in zip(content, labels, strict=True):
        names = [name for name, _ in pairs or ()]
        by_name = {name: value for name, value in pairs or () if value}
        if one is None or "__name__" not in by_name or "" in names or len(set(names)) < len(names):
            invalid += 1
            continue
        received += len(one.samples)
        histograms += len(one.histograms)
        exemplars += len(one.exemplars)
        belong = list(belongings(catalogue, by_name))
        kept += len(one.samples) * bool(belong)
        for place, source in belong:
            for sample in one.samples:
                samples[place, source, sample.timestamp, bits(sample.value)] += 1
    return Meaning(samples, received, histograms, exemplars, invalid, len(content), kept)


def plain_labels(refs: Sequence[int], symbols: Sequence[str]) -> LabelList | None:
    if len(refs) % 2:
        return None
    labels = []
    for place in range(0, len(refs), 2):
        if refs[place] >= len(symbols) or refs[place + 1] >= len(symbols):
            return None
        labels.append((symbols[refs[place]], symbols[refs[place + 1]]))
    return labels


def plainly_valid(one: newer.TimeSeries, symbols: Sequence[str]) -> bool:
    metadata = one.metadata
    return (
        not (one.samples and one.histograms)
        and all(plain_labels(found.labels_refs, symbols) is not None for found in one.exemplars)
        and max(metadata.help_ref, metadata.unit_ref, 0) < max(len(symbols), 1)
        and all(adds_up(histogram) for histogram in one.histograms)
    )


def adds_up(histogram: newer.Histogram) -> bool:
    named = [
        sum(span.length for span in histogram.positive_spans),
        sum(span.length for span in histogram.negative_spans),
    ]
    if histogram.HasField("count_float"):
        sides = [list(histogram.positive_counts), list(histogram.negative_counts)]
    else:
        sides = [[], []]
        for side, deltas in zip(
            sides, (histogram.positive_deltas, histogram.negative_deltas), strict=True
        ):
            count = 0
            for delta in deltas:
                count += delta
                side.append(count)
        observed = sum(sides[0]) + sum(sides[1]) + histogram.zero_count_int
        if observed > histogram.count_int:
            return False
        if observed < histogram.count_int and not math.isnan(histogram.sum):
            return False
    return named == [len(side) for side in sides] and all(
        count >= 0 or math.isnan(count) for side in sides for count in side
    )
