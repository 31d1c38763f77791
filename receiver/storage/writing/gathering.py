"""A batch that requests join, and how they learn what became of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from traceback import clear_frames
from typing import Final

from receiver.errors import ReceiverError
from receiver.rows.batch import Batch
from receiver.rows.model import Sample
from receiver.storage.writing.parting import MAX_CHUNKS, MAX_SAMPLES

PASSES: Final = 3
"""How often a lone sample is passed on from one batch to the next."""
PARTS: Final = 4
"""Parts of their largest size for which a batch has room."""


class Joined:
    """A part of a request, with the outcomes of the batches that hold its samples.

    There are several if its incomplete rows were passed on. It does not refer to the batches
    themselves: what is in a cycle of references stays in memory until the cycle is searched for.

    Args:
        samples: All that it brought.
        chunks: The chunks that they fall into.
        gathering: The batch that it joined.
    """

    def __init__(self, samples: Collection[Sample], chunks: set[int], gathering: Gathering) -> None:
        self.samples = samples
        self.chunks = chunks
        self.committed = [gathering.committed]
        self.outcomes = gathering.batch.add(samples)

    @property
    def has_news(self) -> bool:
        """Whether it brought more than marks that a series has ended."""
        return sum(self.outcomes.stale.values()) < len(self.samples)

    @property
    def may_pass(self) -> bool:
        """Whether its incomplete rows may be passed on once more."""
        return len(self.committed) <= PASSES

    async def wait(self) -> None:
        """Return when all its samples are committed.

        Raises:
            UnavailableError: some are not.
        """
        for committed in self.committed:  # it may grow meanwhile
            # A sender that hangs up must not take its neighbours' batch with it.
            error = await asyncio.shield(committed)
            if error is not None:
                raise renew(error)


def renew(error: ReceiverError) -> ReceiverError:
    """Return the same error without its traceback, which refers to a batch or a request."""
    return type(error)(str(error))


def clear(error: BaseException) -> None:
    """Take the tracebacks from an error and its causes, and the variables from their frames.

    Some of them refer to the error, as whatever tries again does. That makes cycles, in which the
    batch would stay in memory. A frame that still runs cannot be cleared; without the traceback it
    is in no cycle.
    """
    at: BaseException | None = error
    while at is not None:
        clear_frames(at.__traceback__)
        at.__traceback__ = None
        at = at.__cause__ or at.__context__


class Gathering:
    """A batch that requests join until it is committed.

    Args:
        batch: The samples; none yet.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.crowded = False
        """Whether a request joined while another batch was being committed."""
        self.joined: set[Joined] = set()
        self.samples = 0
        """Samples that were brought."""
        self.chunks: set[int] = set()
        """The chunks that they fall into."""
        self.since = math.inf
        """When the first request joined, by the loop's clock."""
        self.closed = asyncio.Event()
        """Set when no more requests may join."""
        self.committed: asyncio.Future[ReceiverError | None] = (
            asyncio.get_running_loop().create_future()
        )
        """Why it was not committed, or None."""

    def has_room(self, samples: Collection[Sample], chunks: set[int]) -> bool:
        """Return whether a part of a request may join."""
        if not self.joined:
            return True
        return (
            self.samples + len(samples) <= PARTS * MAX_SAMPLES
            and len(self.chunks | chunks) <= PARTS * MAX_CHUNKS
        )

    def join(self, samples: Collection[Sample], chunks: set[int]) -> Joined:
        """Take the samples of a part of a request."""
        joined = Joined(samples, chunks, self)
        if joined.has_news:
            self.joined.add(joined)
            self.samples += len(samples)
            self.chunks |= chunks
            self.since = min(self.since, asyncio.get_running_loop().time())
        return joined

    def pass_on(self, following: Gathering) -> None:
        """Leave incomplete rows to the next batch if then other requests are answered without them.

        Those may be what keeps their senders from sending the other samples.
        """
        lone = [
            one for one in self.joined if one.may_pass and self.batch.has_incomplete(one.samples)
        ]
        if len(lone) == len(self.joined):
            return
        for one in lone:
            self.batch.pass_on(one.samples, following.batch)
        # Not just the same: others may have brought the same samples.
        following.joined = {
            one for one in self.joined if following.batch.has_incomplete(one.samples)
        }
        self.joined -= following.joined
        for one in following.joined:
            one.committed.append(following.committed)
            following.crowded = True
            following.since = self.since
            following.chunks |= one.chunks
