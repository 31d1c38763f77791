"""Reads a request of remote read: its queries, and which answer its sender can read.

https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from receiver.errors import BadRequestError, TooLargeError
from receiver.protocol.compression import check_size, decompress
from receiver.protocol.generated import remote_read_pb2 as messages
from receiver.protocol.limits import MIB
from receiver.rows.tables import compile_expression

MAX_MESSAGE: Final = MIB
"""Bytes of a request, decompressed: a regular expression of thousands of names is a tenth."""
MAX_QUERIES: Final = 100
"""Queries in a request; Prometheus sends one."""
MAX_MATCHERS: Final = 200
"""Matchers in all queries of a request: some regular expressions take a second to compile."""
MAX_SHOWN: Final = 200
LABELS_ONLY: Final = "series"
"""The function that Prometheus names where it wants to know which series there are."""


class Matcher(NamedTuple):
    """A condition on a label; one that a series does not have has the value ""."""

    label: str
    matches: Callable[[str], bool]
    equals: str | None = None
    """The only value that matches, if there is only one."""


class Query(NamedTuple):
    """Which samples of which series are wanted."""

    start: int
    """Milliseconds since the Unix epoch; included."""
    end: int
    """The same."""
    matchers: tuple[Matcher, ...]
    """All must match."""
    labels_only: bool = False
    """Whether one sample of each series is enough."""


class ReadRequest(NamedTuple):
    """A request of remote read."""

    queries: list[Query]
    streamed: bool
    """Whether it is answered with STREAMED_XOR_CHUNKS, else with SAMPLES."""


def decode(body: bytes) -> Iterator[ReadRequest | None]:
    """Read a request as it came: yield None after each matcher, and at last the request.

    Raises:
        BadRequestError: it is malformed, or asks for an answer that there is not.
        TooLargeError: it is above a limit.
    """
    check_size(body, MAX_MESSAGE, "for read requests")
    try:
        request = messages.ReadRequest.FromString(decompress(body))
    except DecodeError as error:
        raise BadRequestError(f"the body is no prometheus.ReadRequest: {error}") from error
    check_count("queries", len(request.queries), MAX_QUERIES)
    check_count("matchers", sum(len(query.matchers) for query in request.queries), MAX_MATCHERS)
    streamed = choose_answer(list(request.accepted_response_types))
    queries = []
    for query in request.queries:
        matchers = []
        for matcher in query.matchers:
            matchers.append(read_matcher(matcher))
            yield None
        queries.append(read_query(query, matchers))
    yield ReadRequest(queries, streamed)


def check_count(name: str, count: int, limit: int) -> None:
    """Check a number of elements against its limit.

    Raises:
        TooLargeError: there are more.
    """
    if count > limit:
        raise TooLargeError(f"the read request has {count} {name}, the limit is {limit}")


def choose_answer(accepted: list[int]) -> bool:
    """Return whether the answer is streamed: the first type that the sender accepts and there is.

    Raises:
        BadRequestError: there is none of them.
    """
    for type_ in accepted or [messages.SAMPLES]:
        if type_ in {messages.SAMPLES, messages.STREAMED_XOR_CHUNKS}:
            return type_ == messages.STREAMED_XOR_CHUNKS
    raise BadRequestError(
        f"accepted_response_types {accepted[:5]} has neither SAMPLES (0) nor "
        "STREAMED_XOR_CHUNKS (1)"
    )


def read_query(query: messages.Query, matchers: Sequence[Matcher]) -> Query:
    """Read a query with its matchers; where hints narrow its range, that holds."""
    start, end = query.start_timestamp_ms, query.end_timestamp_ms
    hints = query.hints
    if hints.start_ms or hints.end_ms:
        start, end = max(start, hints.start_ms), min(end, hints.end_ms)
    return Query(start, end, tuple(matchers), hints.func == LABELS_ONLY)


def read_matcher(matcher: messages.LabelMatcher) -> Matcher:
    """Read a matcher, regular expressions as PromQL does: RE2, anchored.

    Raises:
        BadRequestError: its type is unknown, or its value is no regular expression.
    """
    name, value, types = matcher.name, matcher.value, messages.LabelMatcher
    if matcher.type == types.EQ:
        return Matcher(name, value.__eq__, equals=value)
    if matcher.type == types.NEQ:
        return Matcher(name, value.__ne__)
    if matcher.type not in {types.RE, types.NRE}:
        raise BadRequestError(f"matcher of {name[:MAX_SHOWN]!r} has unknown type {matcher.type}")
    try:
        fullmatch = compile_expression(value)
    except ValueError as error:
        raise BadRequestError(f"matcher of {name[:MAX_SHOWN]!r}: {error}"[:MAX_SHOWN]) from None
    wanted = matcher.type == types.RE
    return Matcher(name, lambda text: (fullmatch(text) is not None) is wanted)
