"""Collects what a decoder finds in a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError

from receiver.model import Faults, Sample, WriteRequest
from receiver.protocol.series import InvalidSeriesError, shorten

FAULTS_NAMED: Final = 3
MAX_DESCRIPTION: Final = 200


class EncodedSeries(Protocol):
    """A series of either message."""

    def ParseFromString(self, serialized: bytes) -> int:  # noqa: N802  protobuf's name
        """Read the series."""

    @property
    def samples(self) -> Sized:
        """Its samples."""

    @property
    def histograms(self) -> Sized:
        """Its histograms."""

    @property
    def exemplars(self) -> Sized:
        """Its exemplars."""


S = TypeVar("S", bound=EncodedSeries)


class Tally:
    """Counts the elements of valid series and names the faults of the others.

    Args:
        samples: The samples of the kept series; the decoder adds to it.
    """

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = samples
        self._received = self._histograms = self._exemplars = 0
        self._invalid = 0
        self._faults: list[str] = []

    def count(self, samples: int, histograms: int = 0, exemplars: int = 0) -> None:
        """Count the elements of valid series."""
        self._received += samples
        self._histograms += histograms
        self._exemplars += exemplars

    def read(
        self,
        encoded: Iterable[tuple[int, bytes]],
        new: Callable[[], S],
        keep: Callable[[S], list[Sample]],
        labels: Callable[[S], Iterable[tuple[str, str]]],
    ) -> None:
        """Parse series in full, each with its place in the request; one at fault harms no other."""
        for index, data in encoded:
            series = new()
            try:
                series.ParseFromString(data)
                self._samples += keep(series)
            except (DecodeError, InvalidSeriesError) as error:
                self.fault(index, labels(series), error)
            else:
                self.count(len(series.samples), len(series.histograms), len(series.exemplars))

    def fault(self, index: int, labels: Iterable[tuple[str, str]], error: Exception) -> None:
        """Count an invalid series; the first few are named."""
        self._invalid += 1
        if len(self._faults) < FAULTS_NAMED:
            self._faults.append(f"series {index} {describe(labels)}: {error}")

    def request(self, total: int) -> WriteRequest:
        """What the request with `total` series says."""
        return WriteRequest(
            self._samples,
            self._received,
            self._histograms,
            self._exemplars,
            Faults(self._invalid, total, self._faults),
        )


def describe(labels: Iterable[tuple[str, str]]) -> str:
    """Name a series in an error by its first labels; at no more cost than that takes."""
    texts: list[str] = []
    for name, value in labels:
        texts.append(f"{shorten(name)}={shorten(value)!r}")
        if sum(map(len, texts)) > MAX_DESCRIPTION:
            texts.append("…")
            break
    return f"{{{', '.join(texts)}}}"
