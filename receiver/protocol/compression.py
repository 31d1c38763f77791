"""Snappy's block format, with the size checked before any memory is allocated."""

from __future__ import annotations

from typing import Final

import snappy

from receiver.errors import BadRequestError, TooLargeError

FRAMED_MAGIC: Final = b"\xff\x06\x00\x00sNaPpY"
MAX_RATIO: Final = 32
WRITE_ADVICE: Final = "(RECEIVER_MAX_MESSAGE_SIZE); send fewer samples per request"


def check_size(body: bytes, limit: int, advice: str = WRITE_ADVICE) -> int:
    """Return the size in bytes that a block states, if it is at most `limit`.

    Args:
        body: The block.
        limit: Maximum size in bytes.
        advice: What the error adds about the limit.

    Raises:
        BadRequestError: the body cannot be a snappy block of that size.
        TooLargeError: the size is above the limit.
    """
    if body.startswith(FRAMED_MAGIC):
        raise BadRequestError("the body is in snappy's framed format; send the block format")
    size = read_size(body)
    if size > limit:
        raise TooLargeError(
            f"the request is {size} bytes decompressed, the limit is {limit} {advice}"
        )
    # The smallest encoding takes 3 bytes for every 64: a shorter body cannot be a whole block.
    if size > MAX_RATIO * len(body):
        raise BadRequestError(
            f"the body is not a complete snappy block: too short for the {size} bytes it declares"
        )
    return size


def read_size(body: bytes) -> int:
    """Read the size that a block states in its first bytes, a varint of at most 32 bits.

    Raises:
        BadRequestError: the body does not start with such a varint.
    """
    size = 0
    for index, byte in enumerate(body[:5]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80 and size < 1 << 32:
            return size
    raise BadRequestError("the body is not a snappy block: it does not start with a length")


def decompress(body: bytes) -> bytes:
    """Decompress a block whose size has been checked.

    Raises:
        BadRequestError: the body is not one whole snappy block.
    """
    try:
        return bytes(snappy.uncompress(body))
    except snappy.UncompressError as error:
        raise BadRequestError("the body is not a complete snappy block") from error
