"""What remote read answers, over HTTP, from a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import MakeSettings
from tests.messages import NOW
from tests.reading import named, query, read, request
from tests.receivers import Running, receiving
from tests.tables import CAMERA, PRESS, ROBOT, camera, press, robot, write_tables


@pytest.fixture
async def receiver(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> AsyncIterator[Running]:
    settings = make_settings(database_url=database_url, tables_file=write_tables(tmp_path))
    async with receiving(settings) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["SAMPLES", "STREAMED_XOR_CHUNKS"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def labels(name: str, source: dict[str, str] | None = None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({**(source or CAMERA), "__name__": name}.items()))


async def test_samples_come_back_as_they_were(receiver: Running, streamed: bool) -> None:
    await receiver.send(*(point for at in range(500) for point in camera(NOW + 5000 * at, at % 3)))
    answer = await read(
        receiver, request(named("app_status"), named("ocr_value"), streamed=streamed)
    )
    status, ocr = answer.results(2)
    times = [NOW + 5000 * at for at in range(500)]
    assert status == [(labels("app_status"), [(time, at % 3) for at, time in enumerate(times)])]
    assert ocr == [(labels("ocr_value"), [(time, time / 1000) for time in times])]
