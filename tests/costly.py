"""Messages that are cheap to send and would be expensive to decode naively."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.messages import NOW, encoded_timestamp, field, label, sample, varint

NAMED: Final = label("__name__", "app_status") + label("instance", "a")
SYMBOLS: Final = b"".join(
    field(4, text.encode()) for text in ("", "__name__", "app_status", "instance", "a")
)
REFS: Final = field(1, bytes([1, 2, 3, 4]))
ONE: Final = sample(encoded_timestamp(NOW))

Build = Callable[[int], bytes]
"""Builds a message of about this many bytes."""


def older(*content: bytes, times: int = 1) -> bytes:
    """Encode the series of a 1.0 request."""
    return b"".join(field(1, one) for one in content) * times


def newer(*content: bytes, symbols: bytes = SYMBOLS, times: int = 1) -> bytes:
    """Encode a 2.0 request."""
    return symbols + b"".join(field(5, one) for one in content) * times


def fill(part: bytes, size: int) -> bytes:
    """Repeat the same fields up to a size."""
    return part * (size // len(part))


def expanding(size: int) -> bytes:
    """Build series, a few bytes each, with distinct label sets of 25 kB; all are kept."""
    count = size // 200
    symbols = field(4, b"x" * 25_000) + b"".join(field(4, b"%d" % n) for n in range(count))
    return newer(
        *(
            field(1, bytes([1, 2, 3]) + varint(6 + number) + bytes([4, 5])) + ONE
            for number in range(count)
        ),
        symbols=SYMBOLS + symbols,
    )


V1: Final[Mapping[str, Build]] = {
    "empty series": lambda size: fill(b"\x0a\x00", size),
    "series without labels": lambda size: fill(field(1, ONE), size),
    "metadata": lambda size: fill(b"\x1a\x00", size),
    "one metadata entry": lambda size: field(3, bytes(size)),
    "unknown fields": lambda size: older(NAMED) + fill(b"\x78\x00", size),
    "one unknown field": lambda size: older(NAMED) + field(15, bytes(size)),
    "groups": lambda size: older(NAMED) + fill(b"\x7b\x7c", size),
    "one group": lambda size: older(NAMED) + b"\x7b" + fill(b"\x78\x00", size) + b"\x7c",
    "empty samples": lambda size: older(NAMED + fill(b"\x12\x00", size)),
    "timestamps": lambda size: older(NAMED + fill(ONE, size)),
    "empty labels": lambda size: older(NAMED + fill(b"\x0a\x00", size)),
    "exemplars": lambda size: older(NAMED + fill(b"\x1a\x00", size)),
    "histograms": lambda size: older(NAMED + fill(b"\x22\x00", size)),
    "one histogram": lambda size: older(NAMED + field(4, bytes(size))),
    "unknown fields in a series": lambda size: older(NAMED + fill(b"\x78\x00", size)),
    "one sample": lambda size: older(NAMED + field(2, fill(b"\x10\x05", size))),
    "one value": lambda size: older(NAMED + label("z", "x" * size) + ONE),
    "one wide value": lambda size: older(NAMED + label("z", "\N{GRINNING FACE}" + "x" * size)),
    "one name": lambda size: older(NAMED + label("z" * size, "") + ONE),
    "large label sets": lambda size: older(
        *(NAMED + label("z", f"{n}" + "x" * 30_000) + ONE for n in range(size // 30_000))
    ),
}

V2: Final[Mapping[str, Build]] = {
    "symbols": lambda size: fill(b"\x22\x00", size),
    "short symbols": lambda size: SYMBOLS + fill(field(4, b"ab"), size),
    "wide symbols": lambda size: (
        SYMBOLS + fill(field(4, ("\N{GRINNING FACE}" + "x" * 1000).encode()), size)
    ),
    "one symbol": lambda size: newer(
        field(1, bytes([1, 2, 3, 5])) + ONE, symbols=SYMBOLS + field(4, b"x" * size)
    ),
    "a symbol again and again": lambda size: newer(
        field(1, bytes([1, 2, *[5] * 200])) + ONE,
        symbols=SYMBOLS + field(4, b"x" * (size // 2)),
        times=size // 5000,
    ),
    "label sets that expand": expanding,
    "empty series": lambda size: SYMBOLS + fill(b"\x2a\x00", size),
    "unknown fields": lambda size: newer(REFS) + fill(b"\x78\x00", size),
    "references": lambda size: newer(field(1, fill(b"\x01", size))),
    "separate references": lambda size: newer(fill(b"\x08\x01", size)),
    "empty samples": lambda size: newer(REFS + fill(b"\x12\x00", size)),
    "empty histograms": lambda size: newer(REFS + fill(b"\x1a\x00", size)),
    "spans": lambda size: newer(REFS + field(3, fill(b"\x42\x00", size))),
    "histograms of many spans": lambda size: newer(
        REFS + field(3, fill(b"\x42\x00", 60_000)), times=size // 60_000
    ),
    "deltas": lambda size: newer(REFS + field(3, field(9, bytes(size)))),
    "counts": lambda size: newer(REFS + field(3, field(10, bytes(size // 8 * 8)))),
    "histograms of many buckets": lambda size: newer(
        REFS + field(3, field(12, bytes(60_000))), times=size // 60_000
    ),
    "exemplars": lambda size: newer(REFS + fill(b"\x22\x00", size)),
    "references of an exemplar": lambda size: newer(REFS + field(4, field(1, bytes(size)))),
    "metadata": lambda size: newer(REFS + fill(b"\x2a\x00", size)),
    "everything": lambda size: newer(REFS + fill(b"\x12\x00\x22\x00\x2a\x00\x78\x00", size)),
}
