"""A batch that requests join, and how they learn what became of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from typing import Final

from receiver.model import Sample
from receiver.pairing import Batch, Outcome

PASSES: Final = 3
"""How often a lone sample is passed on from one batch to the next."""


class Joined:
    """A request, with the batches that hold its samples: further ones if halves were passed on.

    Args:
        samples: All that it brought.
        gathering: The batch that it joined.
    """

    def __init__(self, samples: Collection[Sample], gathering: Gathering) -> None:
        self.samples = samples
        self.gatherings = [gathering]
        self.outcomes = gathering.batch.add(samples)

    @property
    def has_news(self) -> bool:
        """Whether it brought more than marks that a series has ended."""
        return self.outcomes[Outcome.STALE] < len(self.samples)

    @property
    def may_pass(self) -> bool:
        """Whether its halves may be passed on once more."""
        return len(self.gatherings) <= PASSES

    async def wait(self) -> None:
        """Return when all its samples are committed.

        Raises:
            UnavailableError: some are not.
        """
        for gathering in self.gatherings:  # it may grow meanwhile
            # A sender that hangs up must not take its neighbours' batch with it.
            await asyncio.shield(gathering.committed)


class Gathering:
    """A batch that requests join until it is committed.

    Args:
        ocr_unit: Microseconds in one unit of the OCR metric.
    """

    def __init__(self, ocr_unit: int) -> None:
        self.batch = Batch(ocr_unit)
        self.crowded = False
        """Whether a request joined while another batch was being committed."""
        self.joined: set[Joined] = set()
        self.since = math.inf
        """When the first request joined, by the loop's clock."""
        self.committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Every request may be gone before the outcome is known; it is no surprise then.
        self.committed.add_done_callback(lambda done: done.cancelled() or done.exception())

    def join(self, samples: Collection[Sample]) -> Joined:
        """Take the samples of a request."""
        joined = Joined(samples, self)
        if joined.has_news:
            self.joined.add(joined)
            self.since = min(self.since, asyncio.get_running_loop().time())
        return joined

    def pass_on(self, following: Gathering) -> None:
        """Leave halves to the next batch if then other requests are answered without them.

        Those may be what keeps their senders from sending the twins.
        """
        lone = [one for one in self.joined if one.may_pass and self.batch.has_half_of(one.samples)]
        if len(lone) == len(self.joined):
            return
        for one in lone:
            self.batch.pass_on(one.samples, following.batch)
        # Not just the same: others may have brought the same samples.
        following.joined = {one for one in self.joined if following.batch.has_half_of(one.samples)}
        self.joined -= following.joined
        for one in following.joined:
            one.gatherings.append(following)
            following.crowded = True
            following.since = self.since
