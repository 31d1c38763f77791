"""Checks passwords in a thread, since bcrypt is slow on purpose."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple

import bcrypt

from receiver.errors import OverloadedError
from receiver.security.turns import Turns

MOST_WAITING: Final = 1024
"""Maximum number of waiting checks; further ones are refused."""

LONGEST_WAIT: Final = 20.0
"""Seconds until a request whose check has not ended is refused; its sender retries."""

MOST_REMEMBERED: Final = 1024
"""Maximum number of remembered wrong passwords; the least recently used is dropped first."""

LONGEST: Final = 72
"""Maximum length of a password in bytes; bcrypt has never hashed a longer one."""


class Attempt(NamedTuple):
    """The credentials of a request, and its sender."""

    user: bytes
    password: bytes
    hashed: bytes
    """The bcrypt hash to compare with."""
    genuine: bool
    """Whether the hash is the user's own; an unknown user is compared with another one's."""
    address: str = ""
    is_wanted: Callable[[], bool] = lambda: True
    """Returns whether the sender still waits for the response."""


class Check:
    """A waiting or running check, for all attempts with the same credentials."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempts = [attempt]
        self.outcome: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        """The result; None if the check is given up."""


class PasswordChecker:
    """Compares passwords with bcrypt hashes, and remembers the results.

    A single thread compares them, with the lowest priority and without holding the GIL.
    Right passwords are remembered as long as their hashes are in use, however many wrong ones
    arrive. Passwords that are not remembered take turns by address and by user.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "passwords", step_back)
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, bytes] = {}
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._checks: dict[bytes, Check] = {}
        self._turns: Turns[bytes] = Turns(MOST_WAITING)
        self._running = False

    def close(self) -> None:
        """Stop, without waiting for checks that have not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        while self._turns:
            self._give_up(self._turns.take())

    async def matches(self, attempt: Attempt) -> bool:
        """Return whether the hash is of the password and is the user's own.

        Results are remembered by user: otherwise a quick response for an unknown name would reveal
        that another user has the password.

        Raises:
            OverloadedError: too many other passwords are waiting.
        """
        if len(attempt.password) > LONGEST:
            return False
        case = self._digest(attempt)
        if hmac.compare_digest(self._right.get(attempt.user, b""), case):
            return True
        if case in self._wrong:
            self._wrong.move_to_end(case)
            return False
        found = self._find(case, attempt)
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                # Other requests may wait for the same check.
                matches = await asyncio.shield(found.outcome)
        except TimeoutError:
            matches = None
        finally:
            found.attempts.remove(attempt)
        if matches is None:
            raise OverloadedError("too many passwords are being checked; try again later")
        return matches

    def _digest(self, attempt: Attempt) -> bytes:
        # Keyed, so that memory holds nothing by which a password could be guessed offline. A user
        # who has been removed since must not be found among the right ones.
        genuine = b"%d" % attempt.genuine
        text = b":".join((genuine, attempt.hashed, attempt.user, attempt.password))
        return hashlib.blake2b(text, key=self._key).digest()

    def _find(self, case: bytes, attempt: Attempt) -> Check:
        if (found := self._checks.get(case)) is not None:
            found.attempts.append(attempt)
            return found
        found = self._checks[case] = Check(attempt)
        refused = self._turns.add(attempt.address, attempt.user, case)
        if refused is not None:
            self._give_up(refused)
        self._go_on()
        return found

    def _give_up(self, case: bytes) -> None:
        self._checks.pop(case).outcome.set_result(None)

    def _go_on(self) -> None:
        """Begin the next check that a sender still waits for, unless one is running."""
        while self._turns and not self._running:
            case = self._turns.take()
            attempts = self._checks[case].attempts
            if any(attempt.is_wanted() for attempt in attempts):
                self._begin(case, attempts[0])
            else:
                self._give_up(case)

    def _begin(self, case: bytes, attempt: Attempt) -> None:
        self._running = True
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, check, attempt.password, attempt.hashed)
        running.add_done_callback(lambda done: self._end(case, attempt, done))

    def _end(self, case: bytes, attempt: Attempt, done: asyncio.Future[bool]) -> None:
        self._running = False
        if done.cancelled():
            self._give_up(case)
            return
        right = done.result() and attempt.genuine
        if right:
            self._right[attempt.user] = case
        else:
            self._remember_wrong(case)
        self._checks.pop(case).outcome.set_result(right)
        self._go_on()

    def _remember_wrong(self, case: bytes) -> None:
        self._wrong[case] = None
        if len(self._wrong) > MOST_REMEMBERED:
            self._wrong.popitem(last=False)


def check(password: bytes, hashed: bytes) -> bool:
    """Return whether the hash is of the password, in a time that depends on the hash only."""
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        # bcrypt takes no more than 72 bytes, and no such password was ever hashed.
        return False


def step_back() -> None:
    """Give this thread the lowest priority; only Linux has priorities of threads."""
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
