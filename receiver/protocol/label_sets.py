"""Reads the label sets of new 1.0 series.

A new series shares most of its labels with other series. Each label is parsed once, and then looked
up by its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from google.protobuf.message import DecodeError

from receiver.protocol.generated.remote_write_v1_pb2 import Label, LabelsFrame
from receiver.protocol.limits import InvalidSeriesError
from receiver.protocol.reading import LONG
from receiver.protocol.samples import HEAD, ZERO_HEAD
from receiver.protocol.series import Key
from receiver.protocol.tally import Tally

MAX_LABELS: Final = 4096
MAX_LABEL_SIZE: Final = 256
"""Maximum size in bytes of a label that is remembered."""
OTHER_HEADS: Final = {HEAD: ZERO_HEAD, ZERO_HEAD: HEAD}


class LabelTexts(dict[bytes, tuple[str, str]]):
    """Names and values of labels by the encoded label."""

    def __missing__(self, encoded: bytes) -> tuple[str, str]:
        """Parse a label that has not been seen before.

        Raises:
            DecodeError: the bytes are not a label.
        """
        label = Label.FromString(encoded)
        texts = label.name, label.value
        if len(encoded) <= MAX_LABEL_SIZE:
            if len(self) >= MAX_LABELS:
                self.clear()
            self[encoded] = texts
        return texts


class LabelSets:
    """Checks the label sets of new series, and remembers the series."""

    def __init__(self) -> None:
        self._texts = LabelTexts()

    def learn(self, keys: Iterable[Key], tally: Tally) -> None:
        """Remember the valid series; the others still have to be parsed in full.

        Args:
            keys: Cache keys of the series: the labels and the first three bytes of the sample.
            tally: The tally of the request.

        Raises:
            TooLargeError: the request takes too much memory.
        """
        find, remember = tally.cache.find, tally.cache.remember
        for key in keys:
            labels, head = key[: -len(HEAD)], key[-len(HEAD) :]
            if head not in OTHER_HEADS or len(key) > LONG or find(key) is not None:
                continue
            known = find(labels + OTHER_HEADS[head])
            if known is not None:
                remember(key, known)
                continue
            with suppress(DecodeError, InvalidSeriesError):
                self._add(key, labels, tally)

    def _add(self, key: Key, labels: bytes, tally: Tally) -> None:
        frame = LabelsFrame.FromString(labels)
        frame.DiscardUnknownFields()
        if frame.SerializeToString() != labels:
            # It is not encoded the way senders do it, or holds more than labels.
            return
        tally.limits.check_labels(len(frame.labels))
        tally.add(key, list(map(self._texts.__getitem__, frame.labels)))
