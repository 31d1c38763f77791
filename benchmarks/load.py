"""A load generator that costs little: threads that send bodies prepared beforehand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit


class Load(NamedTuple):
    """The time until every body was acknowledged."""

    seconds: float
    answers: list[float]
    """Seconds to each answer, ascending."""

    def percentile(self, part: float) -> float:
        """Return the seconds within which this part (0 to 1) of the answers arrived."""
        return percentile(self.answers, part)


def percentile(ascending: Sequence[float], part: float) -> float:
    """Return the value that this part (0 to 1) of the values does not exceed."""
    return ascending[min(len(ascending) - 1, int(part * len(ascending)))]


class Bodies:
    """Hands each body to one of several threads."""

    def __init__(self, bodies: Iterable[bytes]) -> None:
        self._bodies = iter(bodies)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._lock:
                body = next(self._bodies, None)
            if body is None:
                return
            yield body


def send(url: str, bodies: Iterable[bytes], headers: Mapping[str, str], connections: int) -> Load:
    """Send every body once, each connection one request at a time.

    Raises:
        RuntimeError: an answer was not 2xx.
    """
    parts = urlsplit(url)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}Content-Length: ".encode()
    queue = Bodies(bodies)
    answers: list[float] = []
    refusals: list[bytes] = []

    def work() -> None:
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for body in queue:
                start = time.perf_counter()
                connection.sendall(b"%s%d\r\n\r\n%s" % (head, len(body), body))
                answer = connection.recv(65536)
                answers.append(time.perf_counter() - start)
                if not answer.startswith(b"HTTP/1.1 2"):
                    refusals.append(answer)
                    return

    threads = [threading.Thread(target=work) for _ in range(connections)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if refusals:
        raise RuntimeError(f"{url} answered {refusals[0].decode(errors='replace')}")
    return Load(seconds, sorted(answers))
