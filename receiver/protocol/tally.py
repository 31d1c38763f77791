"""Collects what a decoder finds in a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from receiver.model import Faults, Sample, WriteRequest
from receiver.protocol.series import shorten

FAULTS_NAMED: Final = 3
MAX_DESCRIPTION: Final = 200


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
