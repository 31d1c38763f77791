"""Records requests: a file per run, with a request per line as JSON."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Self

from aiohttp import web
from pydantic import AwareDatetime, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from receiver.config.explaining import reason_of
from receiver.errors import BadRequestError, SetupError

logger = logging.getLogger(__name__)

# Only these are recorded, so that no credential gets into a file.
HEADERS: Final = (
    "Content-Type",
    "Content-Encoding",
    "User-Agent",
    "X-Prometheus-Remote-Write-Version",
)


REPLAY_HEADER: Final = "X-Receiver-Replay"
"""Header that marks the requests of a replay."""


class ReplayIntoCaptureError(BadRequestError):
    """This receiver records requests: a replay into it would read what it records."""

    status = HTTPStatus.CONFLICT


class CaptureError(SetupError):
    """Requests cannot be recorded or read back."""


def decode_body(text: object) -> bytes:
    """Decode a recorded body.

    Raises:
        ValueError: it is not base64.
    """
    if not isinstance(text, str):
        raise ValueError("must be text")  # noqa: TRY004  pydantic explains this one
    return base64.b64decode(text, validate=True)


def encode_body(body: bytes) -> str:
    """Encode a body as text."""
    return base64.b64encode(body).decode()


Body = Annotated[bytes, PlainValidator(decode_body), PlainSerializer(encode_body)]


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """A request as received, with some of its headers."""

    received_at: AwareDatetime
    path: str
    headers: dict[str, str]
    body: Body


LINE: Final = TypeAdapter(CapturedRequest)


class Recorder:
    """Appends requests to a new file within a `with` block.

    Args:
        directory: The directory of the file; created if it does not exist.
    """

    def __init__(self, directory: Path) -> None:
        name = f"capture-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl"
        self.path = directory / name

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that a killed process leaves no incomplete line.
            self._file: BinaryIO = self.path.open("ab", buffering=0)
        except OSError as error:
            raise CaptureError(f"cannot record into {self.path}: {error.strerror}") from error
        # One thread keeps the order; the requests wait for it, so their number bounds its queue.
        self._thread = ThreadPoolExecutor(1, "recorder")
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._file.close()

    async def record(self, request: web.Request, body: bytes) -> None:
        """Record a request; return once it is written, or once the failure is logged.

        Raises:
            ReplayIntoCaptureError: the request is from a replay, which may read this same file.
        """
        if REPLAY_HEADER in request.headers:
            raise ReplayIntoCaptureError
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        captured = CapturedRequest(datetime.now(UTC), request.path, headers, body)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, captured)

    def _append(self, captured: CapturedRequest) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            write_all(self._file, LINE.dump_json(captured) + b"\n")
        except OSError as error:
            logger.error("cannot record a request into %s: %s", self.path, error.strerror)  # noqa: TRY400  the disk's fault is no bug
            with suppress(OSError):
                self._file.truncate(end)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of the data to an unbuffered file, which may take only a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def read_capture(path: Path) -> Iterator[CapturedRequest]:
    """Read the requests of a file in order.

    Raises:
        CaptureError: the file cannot be read, or a line is malformed.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield read_line(line, f"{path}, line {number}")
    except OSError as error:
        raise CaptureError(f"cannot read {path}: {error.strerror}") from error


def read_line(line: bytes, place: str) -> CapturedRequest:
    """Decode a recorded request.

    Raises:
        CaptureError: it is malformed; the message names the line.
    """
    if not line.endswith(b"\n"):
        raise CaptureError(f"{place}: the line is incomplete; remove it to replay the others")
    try:
        return LINE.validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        parts = [*map(str, fault["loc"]), reason_of(fault)] if fault["loc"] else []
        reason = ": ".join(["is not a request of `receiver capture`", *parts])
        raise CaptureError(f"{place}: {reason}") from None
