"""Encodes the two remote-read responses, SAMPLES and STREAMED_XOR_CHUNKS, as samples come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import google_crc32c
import numpy as np

from receiver.errors import ReadLimitError
from receiver.protocol.generated import remote_read_pb2 as messages
from receiver.protocol.read_samples import (
    NOTHING,
    Samples,
    encode_samples,
    varint,
)
from receiver.protocol.snappy_blocks import SnappyBlock
from receiver.protocol.xor_chunks import MAX_SAMPLES, encode_chunks
from receiver.rows.columns import Integers
from receiver.rows.model import Labels

FIELD_1: Final = b"\x0a"
"""Tag of the results, of the series and of their labels."""
MAX_SHOWN: Final = 500
XOR: Final = messages.Chunk.XOR


class Answer(Protocol):
    """A response that is being written; queries come in order, as do the series of a query."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the HTTP response."""

    def begin(self, query: int, series: Sequence[Labels]) -> None:
        """Begin the result of a query whose series have these label sets, each sorted by name."""

    def add(self, samples: Samples) -> list[bytes]:
        """Add samples; return the bytes that can be sent now.

        Raises:
            ReadLimitError: the response is too large.
        """

    def end(self) -> list[bytes]:
        """End the result of the query; return the bytes that can be sent now."""

    def finish(self) -> list[bytes]:
        """End the response; return the remaining bytes to send."""


class StreamedAnswer:
    """STREAMED_XOR_CHUNKS: a frame for each series, sent when the series is complete.

    A series could be split over several frames, but Prometheus takes each frame for a separate
    series, and then finds two with the same labels.

    Args:
        max_frame: Maximum size of a frame in bytes; a larger series raises ReadLimitError.
    """

    headers: Final = {
        "Content-Type": "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    }

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._tail = b""
        self._series: Sequence[Labels] = ()
        self._rest = NOTHING
        self._open = -1
        self._frame = bytearray()

    def begin(self, query: int, series: Sequence[Labels]) -> None:
        """Begin the result of a query."""
        self._tail = messages.ChunkedReadResponse(query_index=query).SerializeToString()
        self._series = series

    def add(self, samples: Samples) -> list[bytes]:
        """Add samples; return the frames of all series that are complete."""
        samples = self._rest.then(samples)
        # More samples of the last series may follow.
        last = int(samples.starts()[-1])
        whole = last + (len(samples.times) - last) // MAX_SAMPLES * MAX_SAMPLES
        self._rest = samples.cut(whole, len(samples.times))
        return list(self._encode(samples.cut(0, whole)))

    def end(self) -> list[bytes]:
        """Return the frame of the last series."""
        rest, self._rest = self._rest, NOTHING
        return [*self._encode(rest), *self._close()]

    def finish(self) -> list[bytes]:
        """Return nothing more."""
        return []

    def _encode(self, samples: Samples) -> Iterator[bytes]:
        if not len(samples.times):
            return
        firsts = samples.starts()
        counts = np.diff(firsts, append=len(samples.times))
        places = np.arange(len(samples.times)) - np.repeat(firsts, counts)
        starts = np.flatnonzero(places % MAX_SAMPLES == 0)
        chunks = to_chunks(samples, starts)
        bounds = np.searchsorted(starts, [*firsts.tolist(), len(samples.times)]).tolist()
        for place, begin, end in zip(
            samples.series[firsts].tolist(), bounds[:-1], bounds[1:], strict=True
        ):
            if place != self._open:
                yield from self._close()
                self._open = place
                self._write(messages.ChunkedSeries(labels=to_messages(self._series[place])))
            self._write(messages.ChunkedSeries(chunks=chunks[begin:end]))

    def _write(self, part: messages.ChunkedSeries) -> None:
        """Add a part of the open series; concatenated parts are one message."""
        self._frame += part.SerializeToString()
        if len(self._frame) > self._max_frame:
            labels = ", ".join(f"{name}={value!r}" for name, value in self._series[self._open])
            raise ReadLimitError(
                f"the series {{{labels[:MAX_SHOWN]}}} takes more than {self._max_frame} bytes in "
                "this range, and must fit into a frame (RECEIVER_MAX_REMOTE_READ_FRAME); ask for a "
                "shorter range"
            )

    def _close(self) -> Iterator[bytes]:
        if self._open < 0:
            return
        message = FIELD_1 + varint(len(self._frame)) + bytes(self._frame) + self._tail
        self._frame.clear()
        self._open = -1
        checksum: int = google_crc32c.value(message)
        yield varint(len(message)) + checksum.to_bytes(4, "big") + message


def to_chunks(samples: Samples, starts: Integers) -> list[messages.Chunk]:
    """Encode samples as the chunks that begin at these indexes."""
    lasts = np.append(starts[1:], len(samples.times)) - 1
    return [
        messages.Chunk(min_time_ms=first, max_time_ms=last, type=XOR, data=data)
        for first, last, data in zip(
            samples.times[starts].tolist(),
            samples.times[lasts].tolist(),
            encode_chunks(samples.times, samples.values, starts),
            strict=True,
        )
    ]


class SamplesAnswer:
    """SAMPLES: one message in a snappy block, sent when it is complete.

    Args:
        max_size: Maximum size of the compressed response in memory, in bytes.
    """

    headers: Final = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}

    def __init__(self, max_size: int) -> None:
        self._block = SnappyBlock(max_size)
        self._series: Sequence[Labels] = ()
        self._open = -1

    def begin(self, query: int, series: Sequence[Labels]) -> None:
        """Begin the result of a query."""
        del query
        self._series = series
        self._block.open()

    def add(self, samples: Samples) -> list[bytes]:
        """Add samples; return nothing yet."""
        encoded, ends = encode_samples(samples)
        firsts = samples.starts()
        bounds = [0, *ends[firsts[1:] - 1].tolist(), len(encoded)]
        for place, begin, end in zip(
            samples.series[firsts].tolist(), bounds[:-1], bounds[1:], strict=True
        ):
            if place != self._open:
                self._close_series()
                self._open = place
                self._block.open()
                labels = messages.TimeSeries(labels=to_messages(self._series[place]))
                self._block.write(labels.SerializeToString())
            self._block.write(encoded[begin:end])
        return []

    def _close_series(self) -> None:
        if self._open >= 0:
            self._block.close(FIELD_1)
            self._open = -1

    def end(self) -> list[bytes]:
        """End the result of the query; return nothing yet."""
        self._close_series()
        self._block.close(FIELD_1)
        return []

    def finish(self) -> list[bytes]:
        """Return the whole response in parts."""
        return self._block.finish()


def to_messages(labels: Labels) -> list[messages.Label]:
    """Convert labels to protobuf messages."""
    return [messages.Label(name=name, value=value) for name, value in labels]
