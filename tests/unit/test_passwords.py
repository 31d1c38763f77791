"""Passwords are checked beside the event loop, each once, and never too many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import bcrypt
import pytest

from receiver.errors import OverloadedError
from receiver.security import passwords
from receiver.security.passwords import MOST_REMEMBERED, MOST_WAITING, PasswordChecker

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4))


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords for which bcrypt was asked."""
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


async def test_a_password_is_checked_once(checker: PasswordChecker, checked: list[bytes]) -> None:
    for _ in range(3):
        assert await checker.matches(b"user", b"right", HASH)
        assert not await checker.matches(b"user", b"wrong", HASH)
    assert checked == [b"right", b"wrong"]


async def test_many_at_once_wait_for_one_check(
    checker: PasswordChecker, checked: list[bytes]
) -> None:
    cases = (checker.matches(b"user", b"right", HASH) for _ in range(10 * MOST_WAITING))
    assert all(await asyncio.gather(*cases))
    assert checked == [b"right"]


async def test_users_are_told_apart(checker: PasswordChecker, checked: list[bytes]) -> None:
    """Else an unknown name would be told at once that its password is somebody's."""
    for user in (b"user", b"nobody"):
        assert await checker.matches(user, b"right", HASH)
    assert checked == [b"right", b"right"]


async def test_a_new_hash_is_asked_anew(checker: PasswordChecker) -> None:
    assert await checker.matches(b"user", b"right", HASH)
    assert not await checker.matches(b"user", b"right", bcrypt.hashpw(b"x", bcrypt.gensalt(4)))


async def test_a_flood_is_refused_and_passes(checker: PasswordChecker) -> None:
    async def one(number: int) -> bool | None:
        try:
            return await checker.matches(b"user", b"%d" % number, HASH)
        except OverloadedError:
            return None

    outcomes = await asyncio.gather(*map(one, range(5 * MOST_WAITING)))
    assert outcomes.count(False) == MOST_WAITING
    assert outcomes.count(None) == 4 * MOST_WAITING
    assert await checker.matches(b"user", b"right", HASH)


async def test_whoever_is_known_is_let_in_during_a_flood(checker: PasswordChecker) -> None:
    assert await checker.matches(b"user", b"right", HASH)
    flood = [
        asyncio.create_task(checker.matches(b"user", b"%d" % number, HASH))
        for number in range(MOST_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await checker.matches(b"user", b"another", HASH)
    assert await checker.matches(b"user", b"right", HASH)
    await asyncio.gather(*flood)


async def test_memory_is_bounded(checker: PasswordChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "check", lambda *_: False)
    for number in range(MOST_REMEMBERED + 10):
        await checker.matches(b"user", b"%d" % number, HASH)
    assert len(checker._outcomes) == MOST_REMEMBERED


@pytest.mark.parametrize("password", [b"", b"a" * 73, b"right\0", b"\xff"])
async def test_any_password_is_right_or_wrong(checker: PasswordChecker, password: bytes) -> None:
    assert not await checker.matches(b"user", password, HASH)
