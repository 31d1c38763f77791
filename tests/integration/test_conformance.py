"""The requirements of both Remote-Write specifications for a receiver, one case per clause.

https://prometheus.io/docs/specs/prw/remote_write_spec/ (1.0) and
https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/ (2.0). Where a specification binds the
sender only, the case shows how this receiver handles a sender that violates it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
import snappy

from receiver.config.settings import Settings
from receiver.protocol.generated.remote_write_v1_pb2 import (
    Label,
    Sample,
    TimeSeries,
    WriteRequest,
)
from receiver.protocol.generated.remote_write_v2_pb2 import BucketSpan, Histogram
from receiver.rows.reasons import Reason
from tests import messages
from tests.conftest import MakeSettings
from tests.messages import (
    NOW,
    STALE,
    Request2,
    compress,
    framed2,
    from_bits,
    series,
    varint,
    with_created,
    with_start,
    write_request,
)
from tests.receivers import Running, receiving

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAN: Final = float("nan")
INF: Final = float("inf")

TYPE: Final = "application/x-protobuf"
TYPE1: Final = f"{TYPE};proto=prometheus.WriteRequest"
TYPE2: Final = f"{TYPE};proto=io.prometheus.write.v2.Request"
V1: Final = {
    "Content-Type": TYPE,
    "Content-Encoding": "snappy",
    "User-Agent": "tests/1",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
V2: Final = {**V1, "Content-Type": TYPE2, "X-Prometheus-Remote-Write-Version": "2.0.0"}

SOURCE: Final = {"instance": "a", "job": "ocr"}
STATUS: Final = {"__name__": "app_status", **SOURCE}
OCR: Final = {"__name__": "ocr_value", **SOURCE}
UP: Final = {"__name__": "up", **SOURCE}
SECONDS: Final = NOW / 1000


class Written(NamedTuple):
    """The counts in the response headers of 2.0."""

    samples: int
    histograms: int = 0
    exemplars: int = 0


Row = tuple[Mapping[str, str], int, int, float]
"""Labels, timestamp in milliseconds, status, OCR value in seconds."""
ROW: Final[Row] = (SOURCE, NOW, 1, SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One clause: a request that it covers, and the required result."""

    clause: str
    """Version of the specification, and the title of the section."""
    asks: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: V2)
    status: int = 204
    written: Written | None = None
    """Expected counts; None: the headers must be absent."""
    says: tuple[str, ...] = ()
    """Texts that the refusal must contain."""
    rows: tuple[Row, ...] = ()
    aside: tuple[tuple[str, Reason], ...] = ()
    """Metric and reason of each rejected sample."""
    waiting: int = 0
    """Number of samples in incomplete rows."""

    def __str__(self) -> str:
        return f"{self.clause}: {self.asks}"


# --- bodies ---------------------------------------------------------------------------------------

Point = tuple[Mapping[str, str], float, int]
PAIR: Final[list[Point]] = [(STATUS, 1, NOW), (OCR, SECONDS, NOW)]


def body1(*points: Point) -> bytes:
    return messages.compressed(*(series(labels, (value, time)) for labels, value, time in points))


def body2(*points: Point) -> bytes:
    request = Request2()
    for labels, value, timestamp in points:
        request.add(labels, (value, timestamp))
    return request.compressed()


def unsorted1(*points: Point) -> bytes:
    """Build a 1.0 request with the labels of each series in the given order."""
    return compress(
        WriteRequest(
            timeseries=[
                TimeSeries(
                    labels=[Label(name=name, value=value) for name, value in labels.items()],
                    samples=[Sample(value=value, timestamp=timestamp)],
                )
                for labels, value, timestamp in points
            ]
        ).SerializeToString()
    )


def unsorted2(*points: Point) -> bytes:
    request = Request2()
    for labels, value, timestamp in points:
        request.add({}, (value, timestamp)).labels_refs.extend(request.refs(labels.items()))
    return request.compressed()


def repeated1(name: str) -> bytes:
    """Build a request of a pair with a series in between that has a label twice."""
    request = WriteRequest.FromString(write_request(*(series(one, (1, NOW)) for one in (STATUS,))))
    broken = request.timeseries.add()
    broken.CopyFrom(series(STATUS, (1, NOW + 1)))
    broken.labels.extend([Label(name=name, value="x"), Label(name=name, value="y")])
    request.timeseries.append(series(OCR, (SECONDS, NOW)))
    return compress(request.SerializeToString())


def labelled2(*labels: tuple[str, str]) -> bytes:
    """Build a request of a pair with a series in between that has these labels."""
    request = Request2()
    request.add(STATUS, (1, NOW))
    request.add({}, (1, NOW + 1)).labels_refs.extend(request.refs(labels))
    request.add(OCR, (SECONDS, NOW))
    return request.compressed()


def refs2(*refs: int) -> bytes:
    """Build a request of a pair with a series in between that refers to these symbols."""
    request = Request2()
    request.add(STATUS, (1, NOW))
    request.add({}, (1, NOW + 1)).labels_refs.extend(refs)
    request.add(OCR, (SECONDS, NOW))
    return request.compressed()


def histogram2(histogram: Histogram, *, samples: bool = False) -> bytes:
    """Build a request of a pair with a series in between that has a histogram."""
    request = Request2()
    request.add(STATUS, (1, NOW))
    one = request.add(UP, *([(1.0, NOW)] if samples else []))
    one.histograms.append(histogram)
    request.add(OCR, (SECONDS, NOW))
    return request.compressed()


def rich2() -> bytes:
    """Build a request with one or a few of each kind of content."""
    request = Request2()
    first = request.add(STATUS, (1, NOW), (2, NOW + 1))
    first.exemplars.add(labels_refs=request.refs([("trace_id", "x")]), value=1, timestamp=NOW)
    first.exemplars.add(value=1, timestamp=NOW)
    first.metadata.type = 2
    first.metadata.help_ref = request.ref("What it is.")
    first.metadata.unit_ref = request.ref("codes")
    request.add(OCR, (SECONDS, NOW))
    whole = Histogram(
        count_int=3,
        sum=1,
        zero_count_int=1,
        positive_spans=[BucketSpan(offset=1, length=2)],
        positive_deltas=[1, 0],
    )
    other = request.add(UP)
    other.histograms.extend([whole, Histogram(count_float=0.5), whole])
    other.exemplars.add(value=1, timestamp=NOW)
    return request.compressed()


def starts2(*, of_series: bool, start: int) -> bytes:
    request = Request2()
    for labels, value, timestamp in PAIR:
        one = request.add(labels, (value, timestamp))
        if of_series:
            with_created(one, start)
        else:
            with_start(one.samples[0], start)
    return request.compressed()


def later_fields(message: bytes) -> bytes:
    """Add fields of a later version to a message: of each wire type, small and large."""
    return compress(
        message
        + messages.field(15, b"text")
        + varint(16 << 3)
        + varint(7)
        + varint(17 << 3 | 1)
        + bytes(8)
        + varint(2**20 << 3 | 5)
        + bytes(4)
    )


def metadata1() -> bytes:
    """Build a 1.0 request of metadata only, as Prometheus sends each minute."""
    gauge = (
        varint(1 << 3) + varint(2) + messages.field(2, b"app_status") + messages.field(4, b"Help.")
    )
    return compress(WriteRequest(metadata=[gauge, gauge]).SerializeToString())


def counted1() -> bytes:
    """Build a 1.0 request with fields that 1.0 reserves but senders use."""
    request = WriteRequest(metadata=[b"\x08\x02"])
    for labels, value, timestamp in PAIR:
        request.timeseries.append(series(labels, (value, timestamp)))
    request.timeseries[0].exemplars.append(b"")
    request.timeseries.append(series(UP))
    request.timeseries[-1].histograms.append(b"")
    return compress(request.SerializeToString())


def snappy_frames(body: bytes) -> bytes:
    """Recompress the body in snappy's framed format."""
    return bytes(snappy.StreamCompressor().compress(snappy.uncompress(body)))


def invalid_symbol() -> bytes:
    return compress(Request2().encoded() + messages.field(4, b"\xff"))


MIXED1: Final = repeated1("b")
FIRST: Final = PAIR[0]


# --- 1.0 ------------------------------------------------------------------------------------------

CASES_1: Final = [
    Case(
        clause="1.0 Protocol",
        asks="a WriteRequest in the body of a POST, snappy block format, is taken",
        headers=V1,
        body=body1(*PAIR),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Protocol",
        asks="timestamps are int64 milliseconds: before 1970",
        headers=V1,
        body=body1((STATUS, 1, -1), (OCR, SECONDS, -1)),
        rows=((SOURCE, -1, 1, SECONDS),),
    ),
    Case(
        clause="1.0 Protocol",
        asks="timestamps are int64 milliseconds: zero",
        headers=V1,
        body=body1((STATUS, 1, 0), (OCR, SECONDS, 0)),
        rows=((SOURCE, 0, 1, SECONDS),),
    ),
    *(
        Case(
            clause="1.0 Protocol",
            asks=f"timestamps are int64: {timestamp} is taken, though no row can hold it",
            headers=V1,
            body=body1((STATUS, 1, timestamp)),
            aside=(("app_status", Reason.TIMESTAMP_OUT_OF_RANGE),),
        )
        for timestamp in (2**63 - 1, -(2**63))
    ),
    *(
        Case(
            clause="1.0 Protocol",
            asks=f"values are float64: a status of {name} is taken, though it is no code",
            headers=V1,
            body=body1((STATUS, value, NOW), (UP, value, NOW)),
            aside=(("app_status", reason),),
        )
        for name, value, reason in (
            ("NaN", NAN, Reason.NOT_A_NUMBER),
            ("a signalling NaN", from_bits(0x7FF0000000000001), Reason.NOT_A_NUMBER),
            ("Inf", INF, Reason.INFINITE),
            ("-Inf", -INF, Reason.INFINITE),
            ("0.5", 0.5, Reason.NOT_WHOLE),
            ("5e-324", 5e-324, Reason.NOT_WHOLE),
            ("1.7e308", 1.7e308, Reason.OUT_OF_RANGE),
        )
    ),
    *(
        Case(
            clause="1.0 Protocol",
            asks=f"values are float64: an OCR value of {value} is taken, though it is no time",
            headers=V1,
            body=body1((OCR, value, NOW)),
            aside=(("ocr_value", reason),),
        )
        for value, reason in (
            (NAN, Reason.NOT_A_NUMBER),
            (INF, Reason.INFINITE),
            (-INF, Reason.INFINITE),
            (1.7e308, Reason.OUT_OF_RANGE),
        )
    ),
    Case(
        clause="1.0 Protocol",
        asks="values are float64: a negative zero is the status 0",
        headers=V1,
        body=body1((STATUS, -0.0, NOW), (OCR, SECONDS, NOW)),
        rows=((SOURCE, NOW, 0, SECONDS),),
    ),
    Case(
        clause="1.0 Protocol",
        asks="another content encoding is refused",
        headers={**V1, "Content-Encoding": "gzip"},
        body=body1(*PAIR),
        status=415,
        says=("gzip", "snappy"),
    ),
    Case(
        clause="1.0 Protocol",
        asks="another content type is refused",
        headers={**V1, "Content-Type": "text/plain"},
        body=body1(*PAIR),
        status=415,
        says=("text/plain", TYPE),
    ),
    *(
        Case(
            clause="1.0 Protocol",
            asks=f"a sender that leaves out {absent} is taken for one of 1.0",
            headers={name: value for name, value in V1.items() if name not in absent.split(", ")},
            body=body1(*PAIR),
            rows=(ROW,),
        )
        for absent in (*V1, "Content-Type, Content-Encoding", ", ".join(V1))
    ),
    *(
        Case(
            clause="1.0 Protocol",
            asks=f"the version header decides nothing: {version!r}",
            headers={**V1, "X-Prometheus-Remote-Write-Version": version},
            body=body1(*PAIR),
            rows=(ROW,),
        )
        for version in ("0.1.0", "1.0", "2.0.0", "99", "")
    ),
    Case(
        clause="1.0 Protocol",
        asks="custom headers are let pass",
        headers={**V1, "X-Scope-OrgID": "a", "Authorization": "Bearer x"},
        body=body1(*PAIR),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Protocol",
        asks="snappy's framed format is refused",
        headers=V1,
        body=snappy_frames(body1(*PAIR)),
        status=400,
        says=("framed", "block"),
    ),
    Case(
        clause="1.0 Protocol",
        asks="a body that is not compressed is refused",
        headers=V1,
        body=write_request(series(STATUS, (1, NOW))),
        status=400,
        says=("snappy",),
    ),
    Case(
        clause="1.0 Protocol",
        asks="a body that breaks off is refused",
        headers=V1,
        body=body1(*PAIR)[:-3],
        status=400,
        says=("snappy",),
    ),
    Case(
        clause="1.0 Protocol",
        asks="an empty body is refused",
        headers=V1,
        body=b"",
        status=400,
        says=("snappy",),
    ),
    Case(
        clause="1.0 Protocol",
        asks="what is no WriteRequest is refused",
        headers=V1,
        body=compress(b"\xff\xff\xff"),
        status=400,
        says=("prometheus.WriteRequest",),
    ),
    Case(
        clause="1.0 Protocol",
        asks="a request that states an absurd size is refused",
        headers=V1,
        body=b"\xff\xff\xff\xff\x0f",
        status=413,
        says=("RECEIVER_MAX_MESSAGE_SIZE",),
    ),
    Case(
        clause="1.0 Protocol",
        asks="an empty request is written",
        headers=V1,
        body=compress(b""),
    ),
    Case(
        clause="1.0 Protocol",
        asks="metadata, which is reserved, is let pass: a request of nothing else",
        headers=V1,
        body=metadata1(),
    ),
    Case(
        clause="1.0 Protocol",
        asks="metadata, exemplars and histograms are let pass beside samples",
        headers=V1,
        body=counted1(),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Backward and forward compatibility",
        asks="fields of later minor versions are ignored in the request",
        headers=V1,
        body=later_fields(write_request(*(series(one, (value, at)) for one, value, at in PAIR))),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Backward and forward compatibility",
        asks="fields of later minor versions are ignored in a series, a label and a sample",
        headers=V1,
        body=compress(
            messages.framed(
                *(
                    messages.label("__name__", labels["__name__"])
                    + messages.label("job", "ocr")
                    + messages.field(1, b"\x0a\x08instance\x12\x01a\x1a\x05later")
                    + messages.sample(
                        messages.encoded_value(value),
                        messages.encoded_timestamp(at),
                        varint(9 << 3) + b"\1",
                    )
                    + messages.field(9, b"later")
                    for labels, value, at in PAIR
                )
            )
        ),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Backward and forward compatibility",
        asks="a sender that tests a format by an empty 1.x request gets a success",
        headers=V1,
        body=compress(b""),
    ),
    Case(
        clause="1.0 Labels",
        asks="a series without __name__ cannot be stored: the others are, the answer is 400",
        headers=V1,
        body=body1(*PAIR, (SOURCE, 1, NOW)),
        status=400,
        says=("1 of 3 series", "series 2", "instance='a'", "__name__"),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Labels",
        asks="an empty metric name is none",
        headers=V1,
        body=body1(*PAIR, ({"__name__": ""}, 1, NOW)),
        status=400,
        says=("1 of 3 series", "series 2", "__name__"),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Labels",
        asks="a repeated label name is invalid",
        headers=V1,
        body=MIXED1,
        status=400,
        says=("1 of 3 series", "series 1", "'b'", "more than once"),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Labels",
        asks="a repeated __name__ is invalid",
        headers=V1,
        body=repeated1("__name__"),
        status=400,
        says=("1 of 3 series", "series 1", "'__name__'", "more than once"),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Labels",
        asks="an empty label name is invalid",
        headers=V1,
        body=body1(*PAIR, ({**STATUS, "": "x"}, 1, NOW)),
        status=400,
        says=("1 of 3 series", "series 2", "no name"),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Labels",
        asks="an empty label value, which senders must not send, is no label",
        headers=V1,
        body=body1(({**STATUS, "b": ""}, 1, NOW), PAIR[1]),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Labels",
        asks="labels that are not sorted, as senders must, are the same labels",
        headers=V1,
        body=unsorted1((dict(reversed(STATUS.items())), 1, NOW), PAIR[1]),
        rows=(ROW,),
    ),
    *(
        Case(
            clause="1.0 Labels",
            asks=f"label values are any UTF-8: {value!a}",
            headers=V1,
            body=body1(
                ({**STATUS, "instance": value}, 1, NOW), ({**OCR, "instance": value}, SECONDS, NOW)
            ),
            rows=(({**SOURCE, "instance": stored}, NOW, 1, SECONDS),),
        )
        for value, stored in (
            ("서울 1호기", "서울 1호기"),
            ("\N{GRINNING FACE}", "\N{GRINNING FACE}"),
            ("\"'\\{}\n\r\t;--", "\"'\\{}\n\r\t;--"),
            ("\x01\x7f\x80\uffff", "\x01\x7f\x80\uffff"),
            (" ", " "),
            # PostgreSQL cannot store NUL in text; the escape is unambiguous.
            ("a\0b", "a␀0b"),
            ("a␀0b", "a␀␀0b"),
            ("x" * 10_000, "x" * 10_000),
        )
    ),
    Case(
        clause="1.0 Labels",
        asks="a label value that is not UTF-8 is invalid",
        headers=V1,
        body=compress(
            messages.framed(
                *(series(labels, (value, at)).SerializeToString() for labels, value, at in PAIR),
                messages.label("__name__", "up") + messages.field(1, b"\x0a\x01a\x12\x01\xff"),
            )
        ),
        status=400,
        says=("1 of 3 series", "series 2"),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Labels",
        asks="the first invalid series are named, all are counted",
        headers=V1,
        body=body1(*PAIR, *(({"job": f"x{number}"}, 1, NOW) for number in range(20))),
        status=400,
        says=("20 of 22 series", "series 2 {job='x0'}", "series 3", "series 4"),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Labels",
        asks="a request of nothing but invalid series stores nothing",
        headers=V1,
        body=body1(({"job": "x"}, 1, NOW), ({"job": "y"}, 1, NOW)),
        status=400,
        says=("2 of 2 series",),
    ),
    Case(
        clause="1.0 Labels",
        asks="labels need not hold a job or an instance",
        headers=V1,
        body=body1(({"__name__": "app_status"}, 1, NOW), ({"__name__": "ocr_value"}, SECONDS, NOW)),
        rows=(({}, NOW, 1, SECONDS),),
    ),
    Case(
        clause="1.0 Ordering",
        asks="several samples of a series in one request are all written",
        headers=V1,
        body=compress(
            write_request(
                series(STATUS, (1, NOW), (2, NOW + 1), (3, NOW + 2)),
                series(OCR, (SECONDS, NOW), (SECONDS, NOW + 1), (SECONDS, NOW + 2)),
            )
        ),
        rows=tuple((SOURCE, NOW + later, 1 + later, SECONDS) for later in range(3)),
    ),
    Case(
        clause="1.0 Ordering",
        asks="samples out of order, which senders must not send, are written",
        headers=V1,
        body=compress(
            write_request(
                series(STATUS, (3, NOW + 2), (1, NOW)), series(OCR, (SECONDS, NOW), (1, NOW + 2))
            )
        ),
        rows=(ROW, (SOURCE, NOW + 2, 3, 1.0)),
    ),
    Case(
        clause="1.0 Ordering",
        asks="a series that comes twice in a request is one series",
        headers=V1,
        body=body1(*PAIR, (STATUS, 2, NOW + 1), (OCR, 5, NOW + 1)),
        rows=(ROW, (SOURCE, NOW + 1, 2, 5.0)),
    ),
    Case(
        clause="1.0 Ordering",
        asks="the same samples twice in a request are written once",
        headers=V1,
        body=body1(*PAIR, *PAIR),
        rows=(ROW,),
    ),
    Case(
        clause="1.0 Out of Scope, Backfill",
        asks="old samples are written",
        headers=V1,
        body=body1((STATUS, 1, 1_000), (OCR, SECONDS, 1_000)),
        rows=((SOURCE, 1_000, 1, SECONDS),),
    ),
    Case(
        clause="1.0 Retries & Backoff",
        asks="a sample whose twin has not come is safe, so it is written",
        headers=V1,
        body=body1(FIRST),
        waiting=1,
    ),
    Case(
        clause="1.0 Stale Markers",
        asks="a stale marker is written, and is no row",
        headers=V1,
        body=body1((STATUS, STALE, NOW + 1), (OCR, STALE, NOW + 1), *PAIR),
        rows=(ROW,),
    ),
]

# --- 2.0 ------------------------------------------------------------------------------------------

CASES_2: Final = [
    Case(
        clause="2.0 Protocol",
        asks="io.prometheus.write.v2.Request is supported",
        body=body2(*PAIR),
        written=Written(2),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Protocol",
        asks="prometheus.WriteRequest may be supported, by its name too",
        headers={**V2, "Content-Type": TYPE1},
        body=body1(*PAIR),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Protocol",
        asks="snappy's framed format is refused",
        body=snappy_frames(body2(*PAIR)),
        status=400,
        written=Written(0),
        says=("framed", "block"),
    ),
    Case(
        clause="2.0 Protocol",
        asks="a body that is no snappy is refused",
        body=Request2().encoded(),
        status=400,
        written=Written(0),
        says=("snappy",),
    ),
    Case(
        clause="2.0 Protocol",
        asks="what is no Request is refused",
        body=compress(b"\xff\xff\xff"),
        status=400,
        written=Written(0),
        says=("io.prometheus.write.v2.Request",),
    ),
    *(
        Case(
            clause="2.0 Content-Encoding",
            asks=f"snappy is supported, written as RFC 9110 allows: {encoding!r}",
            headers={**V2, "Content-Encoding": encoding},
            body=body2(*PAIR),
            written=Written(2),
            rows=(ROW,),
        )
        for encoding in ("snappy", "SNAPPY", "Snappy")
    ),
    *(
        Case(
            clause="2.0 Unsupported Request Content",
            asks=f"the encoding {encoding!r} is answered 415",
            headers={**V2, "Content-Encoding": encoding},
            body=body2(*PAIR),
            status=415,
            says=("Content-Encoding", "snappy"),
        )
        for encoding in ("zstd", "gzip", "identity", "snappy, gzip", "x-snappy-framed", "br")
    ),
    *(
        Case(
            clause="2.0 Content-Type",
            asks=f"the message is named as RFC 9110 allows: {content_type}",
            headers={**V2, "Content-Type": content_type},
            body=body2(*PAIR),
            written=Written(2),
            rows=(ROW,),
        )
        for content_type in (
            TYPE2,
            f"{TYPE}; proto=io.prometheus.write.v2.Request",
            f"{TYPE} ;\tproto=io.prometheus.write.v2.Request",
            f'{TYPE};proto="io.prometheus.write.v2.Request"',
            f"{TYPE};PROTO=io.prometheus.write.v2.Request",
            "Application/X-Protobuf;Proto=io.prometheus.write.v2.Request",
            f"{TYPE2};charset=utf-8",
            f"{TYPE};charset=utf-8;proto=io.prometheus.write.v2.Request",
        )
    ),
    *(
        Case(
            clause="2.0 Unsupported Request Content",
            asks=f"the content type {content_type} is answered 415",
            headers={**V2, "Content-Type": content_type},
            body=body2(*PAIR),
            status=415,
            says=("Content-Type", TYPE1, TYPE2),
        )
        for content_type in (
            "application/json",
            "application/protobuf;proto=io.prometheus.write.v2.Request",
            "application/octet-stream",
            f"{TYPE};proto=io.prometheus.write.v3.Request",
            f"{TYPE};proto=io.prometheus.write.v2.request",
            f"{TYPE};proto=",
            f"{TYPE};proto=Request",
            f"text/plain;note={TYPE2}",
        )
    ),
    Case(
        clause="2.0 Content-Type",
        asks="the header names the schema, not the body: 2.0 sent as 1.0 is not taken for empty",
        headers={**V2, "Content-Type": TYPE},
        body=body2(*PAIR),
        status=400,
        says=("another message than its Content-Type says",),
    ),
    Case(
        clause="2.0 Content-Type",
        asks="the header names the schema, not the body: 1.0 sent as 2.0 is not taken for empty",
        body=body1(*PAIR),
        status=400,
        says=("another message than its Content-Type says",),
        written=Written(0),
    ),
    *(
        Case(
            clause="2.0 X-Prometheus-Remote-Write-Version",
            asks=f"the version header decides nothing: {version!r}",
            headers={**V2, "X-Prometheus-Remote-Write-Version": version},
            body=body2(*PAIR),
            written=Written(2),
            rows=(ROW,),
        )
        for version in ("0.1.0", "2.0.0", "2.1.0", "3")
    ),
    Case(
        clause="2.0 User-Agent",
        asks="a request without the headers that name sender and version is written",
        headers={name: V2[name] for name in ("Content-Type", "Content-Encoding")},
        body=body2(*PAIR),
        written=Written(2),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Response",
        asks="series that the receiver does not keep are accepted, hence written",
        body=body2(*PAIR, (UP, 1, NOW), ({"__name__": "go_goroutines"}, 7, NOW)),
        written=Written(4),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Response",
        asks="a request of which nothing is kept is a success with its true count",
        body=body2((UP, 1, NOW)),
        written=Written(1),
    ),
    Case(
        clause="2.0 Response",
        asks="an empty request is a success",
        body=compress(b""),
        written=Written(0),
    ),
    Case(
        clause="2.0 Response",
        asks="a sample that is set aside with its value is accepted, hence written",
        body=body2((STATUS, 0.5, NOW), (OCR, NAN, NOW)),
        written=Written(2),
        aside=(("app_status", Reason.NOT_WHOLE), ("ocr_value", Reason.NOT_A_NUMBER)),
    ),
    Case(
        clause="2.0 Response",
        asks="a sample whose twin has not come is safe, hence written",
        body=body2(FIRST),
        written=Written(1),
        waiting=1,
    ),
    Case(
        clause="2.0 Required Written Response Headers",
        asks="samples, histograms and exemplars are counted each, metadata is not",
        body=rich2(),
        written=Written(3, 3, 3),
        rows=(ROW,),
        waiting=1,
    ),
    Case(
        clause="2.0 Partial Write",
        asks="the valid series are written, the answer is 400, counts the rest and says why",
        body=labelled2(("job", "x")),
        status=400,
        written=Written(2),
        says=("1 of 3 series", "series 1 {job='x'}", "__name__"),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Partial Write",
        asks="nothing of an invalid series is counted",
        body=histogram2(Histogram(), samples=True),
        status=400,
        written=Written(2),
        says=("1 of 3 series", "both samples and histograms"),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Invalid Samples",
        asks="a request of nothing but invalid series writes nothing",
        body=body2(({"job": "x"}, 1, NOW), ({"job": "y"}, 1, NOW)),
        status=400,
        written=Written(0),
        says=("2 of 2 series", "series 0", "series 1"),
    ),
    Case(
        clause="2.0 Invalid Samples",
        asks="series without metadata type and without start timestamp are taken",
        body=body2(*PAIR),
        written=Written(2),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Backward and Forward Compatibility",
        asks="fields of later minor versions are ignored",
        body=later_fields(snappy.uncompress(body2(*PAIR))),
        written=Written(2),
        rows=(ROW,),
    ),
    *(
        Case(
            clause="2.0 Samples and Histogram Samples",
            asks=f"a start timestamp of {start} is taken, of the {'series' if old else 'sample'}",
            body=starts2(of_series=old, start=start),
            written=Written(2),
            rows=(ROW,),
        )
        for old in (True, False)
        for start in (0, -1, NOW)
    ),
    Case(
        clause="2.0 io.prometheus.write.v2.Request",
        asks="labels_refs are required",
        body=refs2(),
        status=400,
        written=Written(2),
        says=("1 of 3 series", "series 1", "__name__"),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 io.prometheus.write.v2.Request",
        asks="labels_refs come in pairs",
        body=refs2(1, 2, 3),
        status=400,
        written=Written(2),
        says=("1 of 3 series", "series 1", "3 label references"),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 io.prometheus.write.v2.Request",
        asks="a series of metadata alone is taken",
        body=compress(
            framed2(
                ["", "__name__", "up", "Help."], b"\x0a\x02\x01\x02" + b"\x2a\x04\x08\x01\x18\x03"
            )
        ),
        written=Written(0),
    ),
    Case(
        clause="2.0 io.prometheus.write.v2.Request",
        asks="a series of an exemplar alone is taken",
        body=compress(framed2(["", "__name__", "up"], b"\x0a\x02\x01\x02" + b"\x22\x02\x18\x01")),
        written=Written(0, 0, 1),
    ),
    Case(
        clause="2.0 io.prometheus.write.v2.Request",
        asks="a series that comes twice in a request is one series",
        body=body2(*PAIR, (STATUS, 2, NOW + 1), (OCR, 5, NOW + 1)),
        written=Written(4),
        rows=(ROW, (SOURCE, NOW + 1, 2, 5.0)),
    ),
    Case(
        clause="2.0 io.prometheus.write.v2.Request",
        asks="a histogram whose buckets do not add up is invalid",
        body=histogram2(Histogram(count_int=1)),
        status=400,
        written=Written(2),
        says=("1 of 3 series", "series 1", "count is 1"),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Symbols",
        asks="the first symbol is the empty string",
        body=compress(framed2(["__name__", "up"], b"\x0a\x02\x00\x01")),
        status=400,
        written=Written(0),
        says=("symbols", "empty string"),
    ),
    Case(
        clause="2.0 Symbols",
        asks="the table is required where there are series",
        body=compress(framed2([], b"")),
        status=400,
        written=Written(0),
        says=("symbols", "empty string"),
    ),
    Case(
        clause="2.0 Symbols",
        asks="references point to symbols",
        body=refs2(1, 99),
        status=400,
        written=Written(2),
        says=("1 of 3 series", "series 1", "reference 99"),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Symbols",
        asks="symbols are UTF-8",
        body=invalid_symbol(),
        status=400,
        written=Written(0),
        says=("io.prometheus.write.v2.Request",),
    ),
    Case(
        clause="2.0 Series Labels",
        asks="a repeated label name is invalid",
        body=labelled2(*STATUS.items(), ("b", "x"), ("b", "y")),
        status=400,
        written=Written(2),
        says=("1 of 3 series", "series 1", "'b'", "more than once"),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Series Labels",
        asks="an empty label name is invalid",
        body=labelled2(*STATUS.items(), ("", "x")),
        status=400,
        written=Written(2),
        says=("1 of 3 series", "series 1", "no name"),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Series Labels",
        asks="an empty label value, which senders must not send, is no label",
        body=body2(({**STATUS, "b": ""}, 1, NOW), PAIR[1]),
        written=Written(2),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Series Labels",
        asks="labels that are not sorted, as senders must, are the same labels",
        body=unsorted2((dict(reversed(STATUS.items())), 1, NOW), PAIR[1]),
        written=Written(2),
        rows=(ROW,),
    ),
    *(
        Case(
            clause="2.0 Series Labels",
            asks=f"names and values are any UTF-8: {name!a}",
            body=body2(
                ({**STATUS, name: value}, 1, NOW),
                ({**OCR, name: value}, SECONDS, NOW),
                ({"__name__": name}, 1, NOW),
            ),
            written=Written(3),
            rows=(({**SOURCE, name: value}, NOW, 1, SECONDS),),
        )
        for name, value in (
            ("service.name", "a.b"),
            ("이름", "서울 1호기"),
            ("with blanks", " "),
            ('"quoted"', "'"),
            ("\N{GRINNING FACE}", "\N{GRINNING FACE}"),
            ("1", "2"),
        )
    ),
    Case(
        clause="2.0 Series Labels",
        asks="a NUL is UTF-8 too, in a name and in a value",
        body=body2(({**STATUS, "a\0": "\0"}, 1, NOW), ({**OCR, "a\0": "\0"}, SECONDS, NOW)),
        written=Written(2),
        rows=(({**SOURCE, "a␀0": "␀0"}, NOW, 1, SECONDS),),
    ),
    Case(
        clause="2.0 Samples and Histogram Samples",
        asks="samples out of order, which senders must not send, are written",
        body=body2((STATUS, 3, NOW + 2), (STATUS, 1, NOW), (OCR, SECONDS, NOW), (OCR, 1, NOW + 2)),
        written=Written(4),
        rows=(ROW, (SOURCE, NOW + 2, 3, 1.0)),
    ),
    Case(
        clause="2.0 Samples and Histogram Samples",
        asks="a stale marker is written, and is no row",
        body=body2((STATUS, STALE, NOW + 1), (OCR, STALE, NOW + 1), *PAIR),
        written=Written(4),
        rows=(ROW,),
    ),
    Case(
        clause="2.0 Exemplars",
        asks="labels of an exemplar refer to symbols",
        body=compress(
            framed2(["", "__name__", "up"], b"\x0a\x02\x01\x02" + b"\x22\x04\x0a\x02\x01\x09")
        ),
        status=400,
        written=Written(0),
        says=("1 of 1 series", "reference 9"),
    ),
]


# --- the receiver and the stored rows -------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(server_url: str) -> AsyncIterator[str]:
    name = f"receiver_test_{secrets.token_hex(6)}"
    server = await asyncpg.connect(server_url)
    await server.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    with pytest.MonkeyPatch.context() as outside:
        outside.chdir(tmp_path_factory.mktemp("conformance"))
        for name in os.environ:
            if name.startswith("RECEIVER_"):
                outside.delenv(name)
        settings = Settings.load(database_url=database, listen="127.0.0.1:0", max_sample_age="off")
    async with receiving(settings) as running:
        yield running


class Stored(NamedTuple):
    rows: list[Row]
    aside: list[tuple[str, Reason]]
    waiting: int


class Tables:
    """The rows that a case has stored in the database."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def clear(self) -> None:
        # TRUNCATE locks whole tables and may deadlock with the receiver's maintenance.
        for table in ("app_logs", "pending_rows", "rejected_samples"):
            await self._connection.execute(f"DELETE FROM {table}")

    async def read(self) -> Stored:
        rows = await self._connection.fetch(
            "SELECT labels, extract(epoch FROM l.created_at) * 1000 AS at, app_status, "
            "extract(epoch FROM ocr_value) AS ocr_value "
            "FROM app_logs l JOIN sources s ON s.id = l.source_id ORDER BY l.created_at"
        )
        aside = await self._connection.fetch(
            "SELECT metric, reason FROM rejected_samples ORDER BY metric, timestamp_ms"
        )
        waiting = await self._connection.fetchval(
            "SELECT count(*) FROM pending_rows, jsonb_object_keys(samples)"
        )
        return Stored(
            [
                (
                    json.loads(row["labels"]),
                    int(row["at"]),
                    row["app_status"],
                    float(row["ocr_value"]),
                )
                for row in rows
            ],
            [(metric, Reason(reason)) for metric, reason in aside],
            waiting,
        )


@pytest_asyncio.fixture(loop_scope="module")
async def tables(database: str, receiver: Running) -> AsyncIterator[Tables]:
    del receiver  # It creates the schema.
    connection = await asyncpg.connect(database)
    found = Tables(connection)
    await found.clear()
    yield found
    await connection.close()


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def written(self) -> Written | None:
        prefix, suffix = "X-Prometheus-Remote-Write-", "-Written"
        counted = {
            name.removeprefix(prefix).removesuffix(suffix): int(value)
            for name, value in self.headers.items()
            if name.startswith(prefix) and name.endswith(suffix)
        }
        if not counted:
            return None
        assert set(counted) == {"Samples", "Histograms", "Exemplars"}
        return Written(counted["Samples"], counted["Histograms"], counted["Exemplars"])


async def post(receiver: Running, body: bytes, headers: Mapping[str, str]) -> Answer:
    async with receiver.session.post(
        receiver.url(),
        data=body,
        # Otherwise each answer would name a different request id.
        headers={"X-Request-ID": "one-and-the-same", **headers},
        skip_auto_headers=["Content-Type", "User-Agent"],
    ) as response:
        return Answer(response.status, response.headers.copy(), await response.text())


# --- the clauses ----------------------------------------------------------------------------------

CASES: Final = [*CASES_1, *CASES_2]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_clause(receiver: Running, tables: Tables, case: Case) -> None:
    answer = await post(receiver, case.body, case.headers)
    assert answer.status == case.status, answer.text
    assert answer.written == case.written
    if answer.status == 204:
        # 1.0 "Protocol", 2.0 "Response": the body of a success is empty.
        assert not answer.text
    else:
        assert [words for words in case.says if words not in answer.text] == [], answer.text
    expected = Stored(list(case.rows), list(case.aside), case.waiting)
    assert await tables.read() == expected
    # 2.0 "Retries on Partial Writes": idempotency, as a sender may resend the request.
    again = await asyncio.gather(*(post(receiver, case.body, case.headers) for _ in range(2)))
    assert [each._replace(headers={}) for each in again] == [answer._replace(headers={})] * 2
    assert [each.written for each in again] == [case.written] * 2
    assert await tables.read() == expected


async def test_every_case_is_about_another_request() -> None:
    described = [str(case) for case in CASES]
    assert len(set(described)) == len(described)


# --- cases of more than one request ---------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1])
async def test_2_0_protocol_a_pair_may_come_in_both_messages(
    receiver: Running, tables: Tables, order: int
) -> None:
    """2.0 "2.x vs 1.x Compatibility": a sender that changes its message stays the same source."""
    requests = [(body1(PAIR[0]), V1), (body2(PAIR[1]), V2)][::order]
    for body, headers in requests:
        assert (await post(receiver, body, headers)).status == 204
    assert await tables.read() == Stored([ROW], [], 0)


async def test_1_0_ordering_requests_may_come_in_parallel(
    receiver: Running, tables: Tables
) -> None:
    halves = [
        (body((labels, value, NOW + number)), headers)
        for number in range(10)
        for labels, value, _ in PAIR
        for body, headers in [(body1, V1) if number % 2 else (body2, V2)]
    ]
    answers = await asyncio.gather(*(post(receiver, body, headers) for body, headers in halves))
    assert {answer.status for answer in answers} == {204}
    expected: list[Row] = [(SOURCE, NOW + number, 1, SECONDS) for number in range(10)]
    assert await tables.read() == Stored(expected, [], 0)


async def test_1_0_ordering_an_older_sample_is_written_after_a_newer_one(
    receiver: Running, tables: Tables
) -> None:
    for timestamp in (NOW, NOW - 3_600_000):
        body = body2((STATUS, 1, timestamp), (OCR, SECONDS, timestamp))
        assert (await post(receiver, body, V2)).written == Written(2)
    older: Row = (SOURCE, NOW - 3_600_000, 1, SECONDS)
    assert await tables.read() == Stored([older, ROW], [], 0)


async def test_a_bad_request_does_not_harm_those_beside_it(
    receiver: Running, tables: Tables
) -> None:
    """1.0 "Labels": each request is validated on its own."""
    bodies = [body1(*PAIR), MIXED1, b"", compress(b"\xff"), body1(*PAIR)]
    answers = await asyncio.gather(*(post(receiver, body, V1) for body in bodies))
    assert [answer.status for answer in answers] == [204, 400, 400, 400, 204]
    assert await tables.read() == Stored([ROW], [], 0)


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize(
    ("headers", "body", "written"), [(V1, body1(*PAIR), None), (V2, body2(*PAIR), Written(0))]
)
async def test_1_0_retries_a_write_that_fails_is_answered_5xx(
    make_settings: MakeSettings, headers: dict[str, str], body: bytes, written: Written | None
) -> None:
    """1.0 "Retries & Backoff"; 2.0 "Retries & Backoff": with Retry-After, and true counts."""
    settings = make_settings(
        database_url="postgresql://nobody@127.0.0.1:1/nothing", retry_after="7s"
    )
    async with receiving(settings, wait=False) as away:
        answer = await post(away, body, headers)
        assert (answer.status, answer.written) == (503, written)
        assert answer.headers["Retry-After"] == "7"
        assert "database" in answer.text
        # A request that can never succeed is not retried, whatever the state of the database.
        assert (await post(away, b"", headers)).status == 400
        assert (await post(away, body, {**headers, "Content-Type": "x/y"})).status == 415
