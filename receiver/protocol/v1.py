"""Decodes `prometheus.WriteRequest`, the message of Remote-Write 1.0.

Only the outer message is parsed at once, by protobuf's C code; it hands over each series as bytes.
Nearly all of them are known label bytes followed by one sample of a known shape, which costs a
look-up. Every other series is parsed in full and, if it can, becomes known.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from receiver.errors import BadRequestError
from receiver.model import Sample, WriteRequest
from receiver.protocol.generated.remote_write_v1_pb2 import TimeSeries, WriteRequestFrame
from receiver.protocol.samples import Sequences, Timestamps, head, recognize
from receiver.protocol.series import FILTERED, SeriesCache
from receiver.protocol.tally import Tally

MAX_SEQUENCES: Final = 16


class Decoder:
    """Turns message bytes into samples of the kept series.

    Args:
        series: Where known series are remembered.
    """

    def __init__(self, series: SeriesCache) -> None:
        self._series = series
        self._sequences = Sequences(MAX_SEQUENCES)
        self._timestamps = Timestamps()

    def decode(self, message: bytes) -> WriteRequest:
        """Decode one message.

        Raises:
            BadRequestError: the bytes are not a `prometheus.WriteRequest`.
        """
        encoded = read_series(message)
        samples, unfamiliar = recognize(encoded, self._series, self._sequences, self._timestamps)
        tally = Tally(samples)
        tally.count(len(encoded) - len(unfamiliar))
        tally.read(
            ((place, encoded[place]) for place in unfamiliar),
            TimeSeries,
            self._kept_samples,
            labels_of,
        )
        return tally.request(len(encoded))

    def _kept_samples(self, series: TimeSeries) -> list[Sample]:
        labels = TimeSeries(labels=series.labels).SerializeToString()
        key = labels + head(series.samples[0].value if series.samples else 0.0)
        known = self._series.find(key)
        if known is None:
            known = self._series.add(key, labels_of(series))
        if known is FILTERED:
            return []
        return [(known, sample.timestamp, sample.value) for sample in series.samples]


def read_series(message: bytes) -> list[bytes]:
    """Split a message into its series, still encoded.

    Raises:
        BadRequestError: it is no such message.
    """
    try:
        frame = WriteRequestFrame.FromString(message)
    except DecodeError as error:
        raise BadRequestError(f"the body is not a prometheus.WriteRequest: {error}") from error
    if message and not (frame.timeseries or frame.metadata):
        raise BadRequestError(
            "the body holds no part of a prometheus.WriteRequest; "
            "is it another message than its Content-Type says?"
        )
    return list(frame.timeseries)


def labels_of(series: TimeSeries) -> list[tuple[str, str]]:
    """Label names and values."""
    return [(label.name, label.value) for label in series.labels]
