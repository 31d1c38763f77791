"""A page answers any parameters with 200 or 400, and never fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import chain

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.conftest import MakeSettings
from tests.pages import fill, showing
from tests.receivers import Running

PAGES = ["/", "/logs", "/rejected", "/codes"]

known = ["lang", "range", "until", "after", "before", "source", "code", "from", "saved"]
# Names of arguments of the page's functions.
internal = ["self", "path", "key", "name", "status", "view", "t", "template", "request", "language"]
# NUL, invalid UTF-8, half of a surrogate pair, invalid escapes.
odd = ["", "%00", "%FF", "%ED%A0%80", "%F0%9F", "%", "%zz", "+", "%26", "%3D", "&", "=", ";", "..."]
numbers = ["0", "1", "-1", "007", "2147483647", "2147483648", "9" * 19, "9" * 30, "1e3", "%D9%A3"]
times = [
    *("2026-11-01", "2026-11-01T00:00:00", "1970-01-01", "9999-12-31T23:59:59", "0000-00-00"),
    *("2026-W01-1", "20261101T000000Z", "2026-11-01T00:00:00%2B23:59:59.999999", "infinity"),
    *("infinity_1", "2026-11-01%2000:00:00%2B00_1", "9999-99-99%2099:99:99%2B00_1"),
    *("%D9%A3%D9%A3%D9%A3%D9%A3-01-01%2000:00:00%2B00_1", "0000-01-01%2000:00:00%2B00%20BC_0"),
    *("999999-01-01%2000:00:00%2B00_9999999999", "now", "now_1"),
]
choices = ["en", "ko", "xx", "15m", "1h", "7d", "30d", "all"]
escaped = st.binary(max_size=8).map(lambda data: "".join(f"%{byte:02X}" for byte in data))
words = st.sampled_from([*chain(known, internal, odd, numbers, times, choices)]) | escaped
queries = st.lists(st.tuples(st.sampled_from(known) | words, words), max_size=6).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    await fill(database_url)
    async with showing(make_settings(database_url=database_url)) as running:
        yield running


async def status(receiver: Running, target: str) -> int:
    """Return the status of a GET of exactly this target, which a client's URL type might change."""
    reader, writer = await asyncio.open_connection(*receiver.address)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("name", [*known, *internal, *odd])
async def test_any_name_of_a_parameter(receiver: Running, name: str) -> None:
    for page in PAGES:
        assert await status(receiver, f"{page}?{name}=1") in {200, 400}
        assert await status(receiver, f"{page}?{name}") in {200, 400}
        assert await status(receiver, f"{page}?lang=xx&{name}=1") == 400


@hypothesis_settings(
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(PAGES), queries)
async def test_any_query(receiver: Running, page: str, query: str) -> None:
    assert await status(receiver, f"{page}?{query}") in {200, 400}
