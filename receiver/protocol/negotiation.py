"""Which message a request says it carries (2.0, "Content-Type" and "Content-Encoding")."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message as HeaderParser
from enum import StrEnum

from receiver.errors import UnsupportedMediaTypeError

MEDIA_TYPE = "application/x-protobuf"
ENCODING = "snappy"


class Message(StrEnum):
    """The protobuf messages the receiver can read, by their fully qualified names."""

    V1 = "prometheus.WriteRequest"
    V2 = "io.prometheus.write.v2.Request"


def negotiate(headers: Mapping[str, str]) -> Message:
    """Tell the message from the headers, never from the body.

    A missing header is taken as the specification's only value for old senders.

    Raises:
        UnsupportedMediaTypeError: the message or its compression is not supported.
    """
    encoding = headers.get("Content-Encoding", ENCODING).strip().lower()
    if encoding != ENCODING:
        raise UnsupportedMediaTypeError(
            f"Content-Encoding {encoding!r} is not supported; send {ENCODING} (block format)"
        )
    return parse_content_type(headers.get("Content-Type", MEDIA_TYPE))


def parse_content_type(value: str) -> Message:
    """Read the media type and its `proto` parameter, in any form RFC 9110 section 8.3.1 allows.

    Raises:
        UnsupportedMediaTypeError: another media type or message.
    """
    header = HeaderParser()
    header["Content-Type"] = value
    name = header.get_param("proto", Message.V1.value)
    if header.get_content_type() == MEDIA_TYPE and name in list(Message):
        return Message(str(name))
    supported = " or ".join(f"{MEDIA_TYPE};proto={message}" for message in Message)
    raise UnsupportedMediaTypeError(f"Content-Type {value!r} is not supported; send {supported}")
