"""Checks passwords beside the event loop: bcrypt takes its time, which is the point of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import bcrypt

from receiver.errors import OverloadedError

MOST_WAITING: Final = 16
"""Checks that may wait for each other; a flood of wrong passwords is refused beyond."""

MOST_REMEMBERED: Final = 1024
"""Outcomes that are remembered; the least used goes first."""

Outcome: TypeAlias = asyncio.Future[bool]


class PasswordChecker:
    """Compares passwords with bcrypt hashes, each case once as long as it is remembered.

    One thread does it, of the lowest priority, and without the interpreter's lock: however many
    wrong passwords come, requests with known ones are answered as fast as ever.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "passwords", step_back)
        self._waiting = 0
        self._key = secrets.token_bytes(32)
        self._outcomes: OrderedDict[bytes, Outcome] = OrderedDict()

    def close(self) -> None:
        """End, without waiting for checks that have not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def matches(self, user: bytes, password: bytes, hashed: bytes) -> bool:
        """Whether the hash was made of the password.

        The user's name tells outcomes apart that are remembered: else a quick answer to an unknown
        name would tell that somebody else has the password.

        Raises:
            OverloadedError: too many others are to be checked first.
        """
        # Keyed, so that memory holds nothing by which a password could be guessed offline.
        case = hashlib.blake2b(b":".join((hashed, user, password)), key=self._key).digest()
        outcome = self._outcomes.get(case)
        if outcome is None:
            outcome = self._outcomes[case] = self._begin(password, hashed)
        else:
            self._outcomes.move_to_end(case)
        # Others may wait for the same one.
        return outcome.result() if outcome.done() else await asyncio.shield(outcome)

    def _begin(self, password: bytes, hashed: bytes) -> Outcome:
        if self._waiting >= MOST_WAITING:
            raise OverloadedError("too many passwords are being checked; try again later")
        if len(self._outcomes) >= MOST_REMEMBERED:
            self._outcomes.popitem(last=False)
        loop = asyncio.get_running_loop()
        outcome = loop.run_in_executor(self._thread, check, password, hashed)
        self._waiting += 1
        outcome.add_done_callback(self._end)
        return outcome

    def _end(self, _: Outcome) -> None:
        self._waiting -= 1


def check(password: bytes, hashed: bytes) -> bool:
    """Whether the hash was made of the password, in a time that only the hash decides."""
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        # bcrypt takes no more than 72 bytes, and no such password was ever hashed.
        return False


def step_back() -> None:
    """Let this thread run when no other wants to; only Linux gives threads a priority."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
