"""Finds out which message a request carries (2.0, "Content-Type" and "Content-Encoding")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from multidict import MultiMapping

from receiver.errors import UnsupportedMediaTypeError

MEDIA_TYPE: Final = "application/x-protobuf"
ENCODING: Final = "snappy"
READ_REQUEST: Final = "prometheus.ReadRequest"
# A parameter's name, and its value quoted or not (RFC 9110, section 5.6.6).
PARAMETER: Final = re.compile(r"""([^\s;="]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))""")
# Possessive quantifiers: with backtracking, a crafted header would take forever to match.
CONTENT_TYPE: Final = re.compile(
    r"\s*+(?P<media_type>[^\s;]++)"
    rf"(?P<parameters>(?:\s*+;\s*+(?:{PARAMETER.pattern})?+)*+)\s*+"
)
ESCAPED: Final = re.compile(r"\\(.)")


class Message(StrEnum):
    """The protobuf messages the receiver can read, by their fully qualified names."""

    V1 = "prometheus.WriteRequest"
    V2 = "io.prometheus.write.v2.Request"


def negotiate(headers: MultiMapping[str]) -> Message:
    """Determine the message from the headers, never from the body.

    A missing header stands for the only value that the specification allows old senders.

    Raises:
        UnsupportedMediaTypeError: the message or its compression is not supported.
    """
    check_encoding(headers)
    return Message(parse_content_type(headers.get("Content-Type", MEDIA_TYPE), tuple(Message)))


def check_read(headers: MultiMapping[str]) -> None:
    """Check that the headers say that the body is a read request.

    Raises:
        UnsupportedMediaTypeError: the message or its compression is not supported.
    """
    check_encoding(headers)
    parse_content_type(headers.get("Content-Type", MEDIA_TYPE), (READ_REQUEST,))


def check_encoding(headers: MultiMapping[str]) -> None:
    """Check how the body is compressed.

    Raises:
        UnsupportedMediaTypeError: it is not compressed with snappy.
    """
    encoding = ", ".join(headers.getall("Content-Encoding", [ENCODING])).strip().lower()
    if encoding != ENCODING:
        raise UnsupportedMediaTypeError(
            f"Content-Encoding {encoding!r} is not supported; send {ENCODING} (block format)"
        )


def parse_content_type(value: str, messages: Sequence[str]) -> str:
    """Parse the media type and its `proto` parameter, in any form RFC 9110 section 8.3.1 allows.

    Args:
        value: The header's value.
        messages: The supported messages; a header without a `proto` parameter means the first.

    Raises:
        UnsupportedMediaTypeError: the media type or the message is not supported.
    """
    header = CONTENT_TYPE.fullmatch(value)
    if header is not None and header["media_type"].lower() == MEDIA_TYPE:
        parameters = {
            name.lower(): ESCAPED.sub(r"\1", quoted) or token
            for name, quoted, token in PARAMETER.findall(header["parameters"])
        }
        name = parameters.get("proto", messages[0])
        if name in messages:
            return name
    supported = " or ".join(f"{MEDIA_TYPE};proto={message}" for message in messages)
    raise UnsupportedMediaTypeError(f"Content-Type {value!r} is not supported; send {supported}")
