"""Compresses a message while it is written, before the lengths of its parts are known.

A snappy block is the length of its content followed by elements, each of which is a literal or
copies earlier bytes. So the elements of separately compressed blocks, concatenated, form one block.
"""

from __future__ import annotations

from typing import Final

import snappy

from receiver.errors import ReadLimitError
from receiver.protocol.compression import read_size
from receiver.protocol.read_samples import varint

AT_ONCE: Final = 256 * 1024
"""Bytes to compress together; snappy itself looks no further back than 64 KiB."""
MAX_LENGTH: Final = 2**32 - 1
"""Maximum number of bytes that a block can hold."""


class Part:
    """A part of the message: its compressed bytes, and those not compressed yet."""

    def __init__(self) -> None:
        self.length = 0
        self.blocks: list[bytes] = []
        """Snappy elements."""
        self.rest = bytearray()


class SnappyBlock:
    """A block that is being written, as nested parts.

    Args:
        max_size: Maximum size of the block in memory, in bytes.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._parts = [Part()]
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write bytes into the part that was opened last.

        Raises:
            ReadLimitError: the block is too large.
        """
        part = self._parts[-1]
        part.length += len(data)
        part.rest += data
        if len(part.rest) >= AT_ONCE:
            self._compress(part)

    def open(self) -> None:
        """Begin a part within the one that was opened last."""
        self._parts.append(Part())

    def close(self, tag: bytes) -> None:
        """End the part opened last and append it to the outer part, after its tag and length."""
        part = self._parts.pop()
        self.write(tag + varint(part.length))
        if not part.blocks:
            self.write(bytes(part.rest))
            return
        self._compress(part)
        outer = self._parts[-1]
        self._compress(outer)
        outer.blocks += part.blocks
        outer.length += part.length

    def finish(self) -> list[bytes]:
        """Return the block in pieces."""
        (part,) = self._parts
        self._compress(part)
        return [varint(part.length), *part.blocks]

    def _compress(self, part: Part) -> None:
        if not part.rest:
            return
        block = bytes(snappy.compress(bytes(part.rest)))
        elements = block[len(varint(read_size(block))) :]
        part.rest.clear()
        part.blocks.append(elements)
        self._size += len(elements)
        if self._size > self._max_size or part.length > MAX_LENGTH:
            raise ReadLimitError(
                f"the answer is larger than {self._max_size} bytes, compressed "
                "(RECEIVER_MAX_REMOTE_READ_SIZE); ask for a shorter range, or accept "
                "STREAMED_XOR_CHUNKS, as Prometheus 3 does"
            )
