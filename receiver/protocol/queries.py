"""Decodes a remote-read request: its queries, and which response types its sender accepts.

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
"""Maximum size of a decompressed request, in bytes; a regular expression of thousands of names
takes a tenth of it."""
MAX_QUERIES: Final = 100
"""Maximum number of queries in a request; Prometheus sends one."""
MAX_MATCHERS: Final = 200
"""Maximum number of matchers in a request: some regular expressions take a second to compile."""
MAX_SHOWN: Final = 200
LABELS_ONLY: Final = "series"
"""Function in the hints of a query that only asks for the label sets of series."""


class Matcher(NamedTuple):
    """A condition on a label; a label that a series does not have has the value ""."""

    label: str
    matches: Callable[[str], bool]
    equals: str | None = None
    """The only value that matches, if there is only one."""


class Query(NamedTuple):
    """A query: the label matchers and the time range."""

    start: int
    """Milliseconds since the Unix epoch, inclusive."""
    end: int
    """Milliseconds since the Unix epoch, inclusive."""
    matchers: tuple[Matcher, ...]
    """All must match."""
    labels_only: bool = False
    """Whether one sample of each series is enough."""


class ReadRequest(NamedTuple):
    """A remote-read request."""

    queries: list[Query]
    streamed: bool
    """Whether the response type is STREAMED_XOR_CHUNKS; otherwise it is SAMPLES."""


def decode(body: bytes) -> Iterator[ReadRequest | None]:
    """Decode a compressed request: yield None after each matcher, then the request.

    Raises:
        BadRequestError: it is malformed, or accepts no supported response type.
        TooLargeError: it is above a limit.
    """
    check_size(body, MAX_MESSAGE, "for read requests")
    try:
        request = messages.ReadRequest.FromString(decompress(body))
    except DecodeError as error:
        raise BadRequestError(f"the body is not a prometheus.ReadRequest: {error}") from error
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
        TooLargeError: there are more elements than the limit.
    """
    if count > limit:
        raise TooLargeError(f"the read request has {count} {name}, the limit is {limit}")


def choose_answer(accepted: list[int]) -> bool:
    """Return whether to stream the response, by the first accepted type that is supported.

    Raises:
        BadRequestError: none of the accepted types is supported.
    """
    for type_ in accepted or [messages.SAMPLES]:
        if type_ in {messages.SAMPLES, messages.STREAMED_XOR_CHUNKS}:
            return type_ == messages.STREAMED_XOR_CHUNKS
    raise BadRequestError(
        f"accepted_response_types {accepted[:5]} has neither SAMPLES (0) nor "
        "STREAMED_XOR_CHUNKS (1)"
    )


def read_query(query: messages.Query, matchers: Sequence[Matcher]) -> Query:
    """Return a query with its matchers, its time range narrowed by its hints."""
    start, end = query.start_timestamp_ms, query.end_timestamp_ms
    hints = query.hints
    if hints.start_ms or hints.end_ms:
        start, end = max(start, hints.start_ms), min(end, hints.end_ms)
    return Query(start, end, tuple(matchers), hints.func == LABELS_ONLY)


def read_matcher(matcher: messages.LabelMatcher) -> Matcher:
    """Return a matcher; regular expressions are RE2 and anchored, as in PromQL.

    Raises:
        BadRequestError: its type is unknown, or its value is not a regular expression.
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
