"""A batch that requests join, and how they learn its outcome."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from traceback import clear_frames
from typing import Final

from receiver.errors import ReceiverError
from receiver.rows.batch import Batch
from receiver.rows.model import Sample
from receiver.storage.writing.parting import MAX_CHUNKS, MAX_REFUSED, MAX_SAMPLES

PASSES: Final = 3
"""How often an incomplete row may be passed on to the next batch."""
PARTS: Final = 4
"""Capacity of a batch, in parts of maximum size."""
SLOW_COST: Final = 5
"""How much longer it takes to commit a rejected or waiting sample than one of a complete row."""


class Joined:
    """A part of a request, with the outcomes of the batches that hold its samples.

    There are several batches if incomplete rows were passed on. It does not refer to the batches
    themselves: objects in a reference cycle stay in memory until the garbage collector finds it.

    Args:
        samples: The samples of the part.
        chunks: The chunks that they fall into.
        gathering: The batch that it joins.
    """

    def __init__(self, samples: Collection[Sample], chunks: set[int], gathering: Gathering) -> None:
        self.samples = samples
        self.chunks = chunks
        self.committed = [gathering.committed]
        self.outcomes = gathering.batch.add(samples)

    @property
    def has_news(self) -> bool:
        """Return whether it has samples other than stale markers."""
        return sum(self.outcomes.stale.values()) < len(self.samples)

    @property
    def may_pass(self) -> bool:
        """Return whether its incomplete rows may be passed on once more."""
        return len(self.committed) <= PASSES

    async def wait(self) -> None:
        """Wait until all its samples are committed.

        Raises:
            UnavailableError: some are not committed.
        """
        for committed in self.committed:  # the list may grow meanwhile
            # A sender that disconnects must not cancel the batch that it shares.
            error = await asyncio.shield(committed)
            if error is not None:
                raise renew(error)


def renew(error: ReceiverError) -> ReceiverError:
    """Return the same error without its traceback, which refers to a batch or a request."""
    return type(error)(str(error))


def clear(error: BaseException) -> None:
    """Remove the tracebacks of an error and its causes, and the variables of their frames.

    Some variables refer to the error, as those of code that retries do. That makes reference
    cycles, which would keep the batch in memory. A frame that still runs cannot be cleared, but
    without the traceback it is not in a cycle.
    """
    at: BaseException | None = error
    while at is not None:
        clear_frames(at.__traceback__)
        at.__traceback__ = None
        at = at.__cause__ or at.__context__


class Gathering:
    """A batch that requests join until it is committed.

    Args:
        batch: The batch, still empty.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.crowded = False
        """Whether a request joined while another batch was being committed."""
        self.joined: set[Joined] = set()
        self.samples = 0
        """Number of samples of all requests that joined."""
        self.chunks: set[int] = set()
        """The chunks that they fall into."""
        self.since = math.inf
        """When the first request joined, by the loop's clock."""
        self.closed = asyncio.Event()
        """Set when no more requests may join."""
        self.committed: asyncio.Future[ReceiverError | None] = (
            asyncio.get_running_loop().create_future()
        )
        """The error because of which the batch was not committed, or None."""

    def has_room(self, samples: Collection[Sample], chunks: set[int]) -> bool:
        """Return whether a part of a request may join."""
        if not self.joined:
            return True
        # A small part hardly delays the others, but may itself have waited long.
        slow = 0 if len(samples) <= MAX_REFUSED else self.batch.slow
        return (
            self.samples + (SLOW_COST - 1) * slow + len(samples) <= PARTS * MAX_SAMPLES
            and len(self.chunks | chunks) <= PARTS * MAX_CHUNKS
        )

    def join(self, samples: Collection[Sample], chunks: set[int]) -> Joined:
        """Add the samples of a part of a request."""
        joined = Joined(samples, chunks, self)
        if joined.has_news:
            self.joined.add(joined)
            self.samples += len(samples)
            self.chunks |= chunks
            self.since = min(self.since, asyncio.get_running_loop().time())
        return joined

    def pass_on(self, following: Gathering) -> None:
        """Pass incomplete rows on to the next batch if other requests can then be answered.

        The senders of those may wait for the answer before they send the other samples.
        """
        lone = [
            one for one in self.joined if one.may_pass and self.batch.has_incomplete(one.samples)
        ]
        if len(lone) == len(self.joined):
            return
        self.batch.pass_on([one.samples for one in lone], following.batch)
        # Not just `lone`: other requests may have brought the same samples.
        following.joined = {
            one for one in self.joined if following.batch.has_incomplete(one.samples)
        }
        self.joined -= following.joined
        for one in following.joined:
            one.committed.append(following.committed)
            following.crowded = True
            following.since = self.since
            following.chunks |= one.chunks
