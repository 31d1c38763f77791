"""Reads the history that a Prometheus still has, window by window, into the database."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
)

from receiver.errors import SetupError, UnavailableError
from receiver.model import Metric, Sample
from receiver.pairing import Outcome
from receiver.prometheus import Points, Prometheus, TooMuchAtOnceError, public
from receiver.protocol.series import FILTERED, SeriesCache
from receiver.write import Storage

PATIENCE: Final = 120.0
"""Seconds for which Prometheus or the database may be away."""
FIRST_SPAN: Final = 5 * 60_000
LONGEST_SPAN: Final = 24 * 3_600_000
SHORTEST_SPAN: Final = 1_000
"""Milliseconds of one window; a day is at most two chunks to create in one transaction."""
SAMPLES_AT_ONCE: Final = 100_000
SERIES_REMEMBERED: Final = 100_000


class Source(Protocol):
    """Where samples are read."""

    async def samples(self, metric: str, begin: int, end: int) -> list[Points]:
        """The samples of a metric after `begin`, until `end`."""


class Progress(NamedTuple):
    """How far a backfill has come, in milliseconds since the Unix epoch."""

    start: int
    end: int
    done: int
    """Everything up to here is stored."""


class Window(NamedTuple):
    """What was read and stored of one stretch of time."""

    progress: Progress
    read: int
    outcomes: Counter[Outcome]


class Bookmark:
    """Remembers how far a backfill came, so that the same command goes on there.

    Args:
        directory: Where the file lies.
        url: Of the Prometheus.
        asked: What tells this backfill from others: the range as it was asked for, the metrics.
    """

    def __init__(self, directory: Path, url: str, asked: Iterable[str]) -> None:
        identity = json.dumps([public(url), *asked])
        name = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._path = directory / f"backfill-{name}.json"

    def read(self) -> Progress | None:
        """How far it came; None if it has not begun, or has ended.

        Raises:
            SetupError: the file is broken.
        """
        try:
            return Progress(**json.loads(self._path.read_text(encoding="ascii")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise SetupError(f"{self._path} is broken: remove it to begin anew") from error

    def write(self, progress: Progress) -> None:
        """Remember.

        Raises:
            SetupError: it cannot be written.
        """
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(progress._asdict()), encoding="ascii")
            new.replace(self._path)
        except OSError as error:
            raise SetupError(
                f"the progress cannot be kept in {self._path}: {error.strerror}; choose another "
                "RECEIVER_DATA_DIR (--data-dir)"
            ) from error

    def remove(self) -> None:
        """Forget: there is nothing to go on with."""
        self._path.unlink(missing_ok=True)


class Backfill:
    """Copies samples from a Prometheus into storage, by the path that pushed samples take.

    Both metrics of a window are read before it is stored, so pairs are whole; what is stored
    already is left as it is.

    Args:
        source: Where samples are read.
        storage: Where they go.
        names: The metrics, by what they are called.
        external_labels: What the source adds to all it pushes; a series' own labels win.
    """

    def __init__(
        self,
        source: Source,
        storage: Storage,
        names: dict[str, Metric],
        external_labels: Mapping[str, str],
    ) -> None:
        self._source = source
        self._storage = storage
        self._names = names
        self._external_labels = external_labels
        self._series = SeriesCache(names, SERIES_REMEMBERED)
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(is_temporary),
            wait=wait_exponential(multiplier=0.1, max=5),
            stop=stop_after_delay(PATIENCE),
            reraise=True,
        )

    async def run(self, progress: Progress) -> AsyncIterator[Window]:
        """Read and store from where it stands to the end; each window as it is committed.

        Raises:
            UnavailableError: Prometheus or the database is away for too long.
        """
        span = FIRST_SPAN
        while progress.done < progress.end:
            until = min(progress.done + span, progress.end)
            try:
                samples: list[Sample] = await self._retrying(self._read, progress.done, until)
            except TooMuchAtOnceError:
                if span <= SHORTEST_SPAN:
                    raise
                span = max(SHORTEST_SPAN, span // 2)
                continue
            outcomes: Counter[Outcome] = Counter()
            if samples:
                outcomes = await self._retrying(self._storage.store, samples)
            progress = progress._replace(done=until)
            yield Window(progress, len(samples), outcomes)
            span = next_span(span, len(samples))

    async def _read(self, begin: int, end: int) -> list[Sample]:
        samples: list[Sample] = []
        for name in self._names:
            for points in await self._source.samples(name, begin, end):
                samples += self._kept(points)
        return samples

    def _kept(self, points: Points) -> list[Sample]:
        labels = {**self._external_labels, **points.labels}
        key = tuple(text for label in sorted(labels.items()) for text in label)
        series = self._series.find(key)
        if series is None:
            series = self._series.add(key, labels.items())
        if series is FILTERED:
            return []
        return [(series, timestamp, value) for timestamp, value in points.values]


def is_temporary(error: BaseException) -> bool:
    """Whether to try the same again."""
    return isinstance(error, UnavailableError) and not isinstance(error, TooMuchAtOnceError)


def next_span(span: int, samples: int) -> int:
    """The length of the next window, so that about `SAMPLES_AT_ONCE` are read at once."""
    if samples > SAMPLES_AT_ONCE:
        return max(SHORTEST_SPAN, span // 2)
    if samples < SAMPLES_AT_ONCE // 4:
        return min(LONGEST_SPAN, span * 2)
    return span


def to_milliseconds(moment: datetime) -> int:
    """A time in milliseconds since the Unix epoch."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def to_text(milliseconds: int) -> str:
    """A time as people read it, in the local time zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().isoformat(" ", "seconds")


async def find_external_labels(prometheus: Prometheus) -> dict[str, str]:
    """What Prometheus adds to all it pushes.

    Raises:
        UnavailableError: it does not tell; the message says what to do.
    """
    try:
        return await prometheus.external_labels()
    except UnavailableError as error:
        raise UnavailableError(
            f"its external labels cannot be read: {error}; give them with --external-label "
            "NAME=VALUE, or say --no-external-labels"
        ) from error
