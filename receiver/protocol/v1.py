"""Decodes `prometheus.WriteRequest`, the message of Remote-Write 1.0.

Only the outer message is parsed at once, by protobuf's C code; it hands over each series as bytes.
Nearly all of them are known label bytes followed by one sample of a known shape, which costs a
look-up. Every other series is parsed in full and, if it can, becomes known.
"""

from __future__ import annotations

import struct
from typing import Final

from google.protobuf.message import DecodeError

from receiver.errors import BadRequestError
from receiver.model import Sample, WriteRequest
from receiver.protocol.generated.remote_write_v1_pb2 import TimeSeries, WriteRequestFrame
from receiver.protocol.series import FILTERED, InvalidSeriesError, SeriesCache
from receiver.protocol.tally import Tally

# The sample that ends a series, as nearly every sender encodes it: field 2, then a value (left out
# when it is zero) and a timestamp whose varint has 6 bytes (the years 2004 to 2109).
ZERO_SAMPLE_HEAD: Final = b"\x12\x07\x10"
SAMPLE_HEAD: Final = b"\x12\x10\x09"
TIMESTAMP_TAG: Final = b"\x10"
SAMPLE: Final = struct.Struct("<3sds6s")

MAX_TIMESTAMPS: Final = 4096


class Decoder:
    """Turns message bytes into samples of the kept series.

    Args:
        series: Where known series are remembered.
    """

    def __init__(self, series: SeriesCache) -> None:
        self._series = series
        # The samples of a scrape share their timestamp, so its bytes repeat.
        self._timestamps: dict[bytes, int] = {}

    def decode(self, message: bytes) -> WriteRequest:
        """Decode one message.

        Raises:
            BadRequestError: the bytes are not a `prometheus.WriteRequest`.
        """
        try:
            encoded = WriteRequestFrame.FromString(message).timeseries
        except DecodeError as error:
            raise BadRequestError(f"the body is not a prometheus.WriteRequest: {error}") from error
        find, unpack = self._series.find, SAMPLE.unpack
        timestamps, read = self._timestamps, self._read_timestamp
        samples: list[Sample] = []
        unfamiliar: list[tuple[int, bytes]] = []
        for index, data in enumerate(encoded):
            # A hit proves the split right: only bytes that parse as labels are ever remembered.
            if data[-9:-6] == ZERO_SAMPLE_HEAD:
                known, stamp, value = find(data[:-9]), data[-6:], 0.0
            elif data[-18:-15] == SAMPLE_HEAD and data[-7:-6] == TIMESTAMP_TAG:
                _, value, _, stamp = unpack(data[-18:])
                known = find(data[:-18])
            else:
                known = None
            if known is None or (timestamp := timestamps.get(stamp) or read(stamp)) is None:
                unfamiliar.append((index, data))
            elif known is not FILTERED:
                samples.append((known, timestamp, value))
        tally = Tally(samples)
        tally.count(len(encoded) - len(unfamiliar))
        for index, data in unfamiliar:
            series = TimeSeries()
            try:
                series.ParseFromString(data)
                samples += self._kept_samples(series)
            except (DecodeError, InvalidSeriesError) as error:
                tally.fault(index, labels_of(series), error)
            else:
                tally.count(len(series.samples), len(series.histograms), len(series.exemplars))
        return tally.request(len(encoded))

    def _kept_samples(self, series: TimeSeries) -> list[Sample]:
        key = TimeSeries(labels=series.labels).SerializeToString()
        known = self._series.find(key)
        if known is None:
            known = self._series.add(key, labels_of(series))
        if known is FILTERED:
            return []
        return [(known, sample.timestamp, sample.value) for sample in series.samples]

    def _read_timestamp(self, stamp: bytes) -> int | None:
        """Read a varint of six bytes, None if the bytes are anything else."""
        if stamp[-1] >= 0x80 or min(stamp[:-1]) < 0x80:
            return None
        if len(self._timestamps) >= MAX_TIMESTAMPS:
            self._timestamps.clear()
        timestamp = sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(stamp))
        self._timestamps[stamp] = timestamp
        return timestamp


def labels_of(series: TimeSeries) -> list[tuple[str, str]]:
    """Label names and values."""
    return [(label.name, label.value) for label in series.labels]
