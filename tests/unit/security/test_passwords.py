"""Passwords are checked off the event loop, each once, fairly, and in limited number."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import bcrypt
import pytest

from receiver.errors import OverloadedError
from receiver.security import passwords
from receiver.security.passwords import MOST_REMEMBERED, Attempt, PasswordChecker

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4))


def attempt(
    password: bytes, user: bytes = b"user", address: str = "", *, genuine: bool = True
) -> Attempt:
    return Attempt(user, password, HASH, genuine, address)


RIGHT = attempt(b"right")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record the passwords that bcrypt checks."""
    found = []
    check = passwords.check

    def note(password: bytes, hashed: bytes) -> bool:
        found.append(password)
        return check(password, hashed)

    monkeypatch.setattr(passwords, "check", note)
    return found


@pytest.fixture
def checker() -> Iterator[PasswordChecker]:
    found = PasswordChecker()
    yield found
    found.close()


async def flood(checker: PasswordChecker, *attempts: Attempt) -> list[asyncio.Task[bool]]:
    """Start attempts, so that all of them wait."""
    tasks = [asyncio.create_task(checker.matches(each)) for each in attempts]
    await asyncio.sleep(0)
    return tasks


def wrong(count: int, **about: str) -> list[Attempt]:
    return [attempt(b"%d" % number, **about) for number in range(count)]  # type: ignore[arg-type]


async def test_a_password_is_checked_once(checker: PasswordChecker, checked: list[bytes]) -> None:
    for _ in range(3):
        assert await checker.matches(RIGHT)
        assert not await checker.matches(attempt(b"wrong"))
    assert checked == [b"right", b"wrong"]


async def test_many_at_once_wait_for_one_check(
    checker: PasswordChecker, checked: list[bytes]
) -> None:
    assert all(await asyncio.gather(*(checker.matches(RIGHT) for _ in range(100))))
    assert checked == [b"right"]


async def test_users_are_told_apart(checker: PasswordChecker, checked: list[bytes]) -> None:
    """Otherwise a quick answer would reveal that a password belongs to another user."""
    assert await checker.matches(RIGHT)
    for _ in range(2):
        assert not await checker.matches(attempt(b"right", b"nobody", genuine=False))
    assert checked == [b"right", b"right"]


async def test_a_user_who_is_removed_is_not_remembered(checker: PasswordChecker) -> None:
    assert await checker.matches(attempt(b"right"))
    for _ in range(2):
        assert not await checker.matches(attempt(b"right", genuine=False))
    assert await checker.matches(attempt(b"right"))


async def test_a_new_hash_is_asked_anew(checker: PasswordChecker) -> None:
    assert await checker.matches(RIGHT)
    other = RIGHT._replace(hashed=bcrypt.hashpw(b"x", bcrypt.gensalt(4)))
    assert not await checker.matches(other)
    assert await checker.matches(other._replace(password=b"x"))
    assert not await checker.matches(other)


# --- floods ---------------------------------------------------------------------------------------


async def test_no_wrong_password_displaces_a_right_one(
    checker: PasswordChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await checker.matches(RIGHT)
    monkeypatch.setattr(passwords, "check", lambda *_: False)
    for each in (*wrong(MOST_REMEMBERED + 10), attempt(b"x" * 100)):
        assert not await checker.matches(each)
    assert await checker.matches(RIGHT)
    assert len(checker._wrong) == MOST_REMEMBERED


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(attempt(b"right", b"other", "one"), id="other user of the address"),
        pytest.param(attempt(b"right", b"user", "two"), id="other address"),
    ],
)
async def test_others_are_checked_before_a_flood(
    checker: PasswordChecker, checked: list[bytes], right: Attempt
) -> None:
    await flood(checker, *wrong(100, address="one"))
    assert await checker.matches(right)
    assert checked.index(b"right") <= 2


async def test_within_one_user_all_are_checked_in_order(
    checker: PasswordChecker, checked: list[bytes]
) -> None:
    tasks = await flood(checker, *wrong(20), RIGHT, *wrong(40)[20:])
    assert (await asyncio.gather(*tasks)).index(True) == 20
    assert checked[20] == b"right"


async def test_those_who_are_gone_are_not_checked(
    checker: PasswordChecker, checked: list[bytes]
) -> None:
    gone = [each._replace(is_wanted=lambda: False) for each in wrong(100)]
    tasks = await flood(checker, *gone)
    assert await checker.matches(RIGHT)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, OverloadedError) for outcome in outcomes)
    assert checked == [b"right"]


async def test_too_many_are_refused_from_whoever_has_the_most(checker: PasswordChecker) -> None:
    checker._turns._limit = 10
    tasks = await flood(checker, *wrong(15, address="one"))
    other = await flood(checker, attempt(b"right", address="two"))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[:10] == [False] * 10
    assert all(isinstance(outcome, OverloadedError) for outcome in outcomes[10:])
    assert await other[0]


async def test_nobody_waits_for_ever(
    checker: PasswordChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "LONGEST_WAIT", 0)
    with pytest.raises(OverloadedError):
        await checker.matches(RIGHT)
    monkeypatch.undo()
    assert await checker.matches(RIGHT)


async def test_whoever_waits_at_the_end_is_answered(checker: PasswordChecker) -> None:
    tasks = await flood(checker, *wrong(5))
    checker.close()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert outcome is False or isinstance(outcome, OverloadedError)


@pytest.mark.parametrize("password", [b"", b"a" * 73, b"right\0", b"\xff"])
async def test_any_password_is_right_or_wrong(checker: PasswordChecker, password: bytes) -> None:
    assert not await checker.matches(attempt(password))
