"""The progress of a backfill is stored in the database that it fills, and only there."""

from __future__ import annotations

from receiver.storage.connection.database import Database
from receiver.storage.writing.backfills import Bookmark, Progress

URL = "http://prometheus:9090"


async def test_progress_is_kept_until_it_is_removed(database: Database) -> None:
    bookmark = Bookmark(database, URL, ("7d", "0s"))
    assert await bookmark.read() is None
    await bookmark.write(Progress(1, 9, 5))
    await bookmark.write(Progress(1, 9, 6))
    assert await Bookmark(database, URL, ("7d", "0s")).read() == Progress(1, 9, 6)
    await bookmark.remove()
    await bookmark.remove()
    assert await bookmark.read() is None


async def test_what_is_asked_differently_is_another_backfill(database: Database) -> None:
    await Bookmark(database, URL, ("7d", "0s")).write(Progress(1, 9, 5))
    for url, asked in ((URL, ("8d", "0s")), ("http://other:9090", ("7d", "0s"))):
        assert await Bookmark(database, url, asked).read() is None
