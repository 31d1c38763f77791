"""Snappy's block format, with the size checked before any memory is taken."""

from __future__ import annotations

import snappy

from receiver.errors import BadRequestError, TooLargeError

FRAMED_MAGIC = b"\xff\x06\x00\x00sNaPpY"


def decompressed_size(body: bytes) -> int:
    """Read the size that the block states in its first bytes (a varint of at most 32 bits).

    Raises:
        BadRequestError: the body does not start as a snappy block does.
    """
    size = 0
    for index, byte in enumerate(body[:5]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80 and size < 1 << 32:
            return size
    raise BadRequestError("the body is not a snappy block: it does not start with a length")


def decompress(body: bytes, limit: int) -> bytes:
    """Decompress a block that states at most `limit` bytes.

    Raises:
        BadRequestError: the body is not one whole snappy block.
        TooLargeError: the stated size is above the limit.
    """
    if body.startswith(FRAMED_MAGIC):
        raise BadRequestError("the body is in snappy's framed format; send the block format")
    size = decompressed_size(body)
    if size > limit:
        raise TooLargeError(
            f"the request is {size} bytes decompressed, the limit is {limit} "
            "(RECEIVER_MAX_MESSAGE_SIZE); send fewer samples a request"
        )
    # The smallest encoding of n bytes takes 3 for every 64: less cannot be a whole block.
    if size > 32 * len(body):
        raise BadRequestError(f"the body is too short for the {size} bytes it states")
    try:
        return bytes(snappy.uncompress(body))
    except (snappy.UncompressError, ValueError) as error:
        raise BadRequestError(f"the body is not a whole snappy block: {error}") from error
