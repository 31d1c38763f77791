"""Decodes `io.prometheus.write.v2.Request`, the message of Remote-Write 2.0.

Both generations in the field are read: until 2.0-rc.3 the start timestamp stood in the series,
since then it stands in the sample; the receiver keeps neither.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from receiver.errors import BadRequestError
from receiver.model import Sample, WriteRequest
from receiver.protocol.generated.remote_write_v2_pb2 import RequestFrame, TimeSeries
from receiver.protocol.histograms import check_histogram
from receiver.protocol.series import FILTERED, InvalidSeriesError, SeriesCache
from receiver.protocol.tally import Tally


class Decoder:
    """Turns message bytes into samples of the kept series.

    Args:
        series: Where known series are remembered.
    """

    def __init__(self, series: SeriesCache) -> None:
        self._series = series

    def decode(self, message: bytes) -> WriteRequest:
        """Decode one message.

        Raises:
            BadRequestError: the bytes are not an `io.prometheus.write.v2.Request`, or its symbols
                do not start with an empty string (2.0, "Symbols").
        """
        try:
            frame = RequestFrame.FromString(message)
        except DecodeError as error:
            raise BadRequestError(
                f"the body is not an io.prometheus.write.v2.Request: {error}"
            ) from error
        symbols = list(frame.symbols)
        if symbols[:1] != [""] and (symbols or frame.timeseries):
            raise BadRequestError("the symbols do not start with an empty string")
        samples: list[Sample] = []
        tally = Tally(samples)
        for index, data in enumerate(frame.timeseries):
            series = TimeSeries()
            try:
                series.ParseFromString(data)
                samples += self._kept_samples(series, symbols)
            except (DecodeError, InvalidSeriesError) as error:
                tally.fault(index, readable_labels(series.labels_refs, symbols), error)
            else:
                tally.count(len(series.samples), len(series.histograms), len(series.exemplars))
        return tally.request(len(frame.timeseries))

    def _kept_samples(self, series: TimeSeries, symbols: Sequence[str]) -> list[Sample]:
        check_elements(series, symbols)
        key = resolve(series.labels_refs, symbols)
        known = self._series.find(key)
        if known is None:
            known = self._series.add(key, zip(key[::2], key[1::2], strict=True))
        if known is FILTERED:
            return []
        return [(known, sample.timestamp, sample.value) for sample in series.samples]


def resolve(refs: Sequence[int], symbols: Sequence[str]) -> tuple[str, ...]:
    """Label names and values in turn.

    Raises:
        InvalidSeriesError: a name without a value, or a reference to no symbol.
    """
    if len(refs) % 2:
        raise InvalidSeriesError(f"{len(refs)} label references: the last name has no value")
    try:
        return tuple(map(symbols.__getitem__, refs))
    except IndexError:
        raise InvalidSeriesError(
            f"reference {max(refs)} points beyond the {len(symbols)} symbols"
        ) from None


def readable_labels(refs: Sequence[int], symbols: Sequence[str]) -> list[tuple[str, str]]:
    """As many labels of an invalid series as can be told."""
    texts = [symbols[ref] if ref < len(symbols) else f"<{ref}>" for ref in refs]
    return list(zip(texts[::2], texts[1::2], strict=False))


def check_elements(series: TimeSeries, symbols: Sequence[str]) -> None:
    """Check what is not labels or samples (2.0, "Protobuf Message", "Exemplars").

    Raises:
        InvalidSeriesError: samples beside histograms, a histogram whose buckets do not add up, or
            a reference to no symbol.
    """
    if series.histograms:
        if series.samples:
            raise InvalidSeriesError("it has both samples and histograms")
        for histogram in series.histograms:
            check_histogram(histogram)
    for exemplar in series.exemplars:
        resolve(exemplar.labels_refs, symbols)
    if series.HasField("metadata"):
        resolve((series.metadata.help_ref, series.metadata.unit_ref), symbols)
