"""Limits of what a request may hold, in elements and in memory rather than in bytes sent."""

from __future__ import annotations

from typing import Final, NamedTuple

from receiver.errors import TooLargeError

KIB: Final = 2**10
MIB: Final = 2**20
INVALID: Final = 24
"""Number of samples that an invalid series counts as: refusing two bytes may take 10 µs."""


class InvalidSeriesError(ValueError):
    """A series breaks the specification or a limit; the message says how."""


class Limits(NamedTuple):
    """Limits of one request and of one series; each is a setting.

    A request above one of the first three is rejected as a whole. A series above one of the others
    is invalid, whether it would be kept or filtered: validity must depend neither on which metrics
    are kept nor on what the receiver remembers.
    """

    max_request_series: int = 250_000
    max_request_samples: int = 250_000
    max_decoded_size: int = 96 * MIB
    """Bytes of memory."""
    max_series_labels: int = 256
    max_label_set_size: int = 32 * KIB
    """Bytes of all names and values in UTF-8; in 2.0, with references replaced by symbols."""
    max_element_size: int = 64 * KIB
    """Bytes on the wire of any element of a series other than its labels."""

    def check(self, name: str, found: int) -> None:
        """Check a request against one of its limits.

        Raises:
            TooLargeError: it is above the limit.
        """
        if found > getattr(self, name):
            raise TooLargeError(f"{self.exceeded(name, found)}; send fewer samples per request")

    def check_invalid(self, found: int, first: str) -> None:
        """Check the number of invalid series of a request.

        A lower limit of samples does not lower this one: the sender would lose its valid series.

        Args:
            found: Their number.
            first: What is wrong with the first one.

        Raises:
            TooLargeError: there are too many to read on.
        """
        most = max(self.max_request_samples, DEFAULTS.max_request_samples) // INVALID
        if found > most:
            raise TooLargeError(
                f"the request has {found} invalid series or more, the limit is {most}; "
                f"send fewer samples per request; {first}"
            )

    def check_labels(self, count: int) -> None:
        """Check the number of labels of a label set before they are read.

        Raises:
            InvalidSeriesError: it is above the limit.
        """
        if count > self.max_series_labels:
            raise InvalidSeriesError(self.exceeded("max_series_labels", count))

    def exceeded(self, name: str, found: int) -> str:
        """Describe an exceeded limit: the count so far, the limit and its setting."""
        what = TEXTS[name].format(found)
        return f"{what} or more, the limit is {getattr(self, name)} (RECEIVER_{name.upper()})"


TEXTS: Final = {
    "max_request_series": "the request has {} series",
    "max_request_samples": "the request has {} samples, histograms and exemplars",
    "max_decoded_size": "the request takes {} bytes of memory",
    "max_series_labels": "a label set of it has {} labels",
    "max_label_set_size": "its labels have {} bytes",
    "max_element_size": "an element of it has {} bytes",
}
DEFAULTS: Final = Limits()
