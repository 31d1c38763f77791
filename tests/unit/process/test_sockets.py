"""The addresses on which the receiver listens, whatever addresses the machine has."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from receiver.process import sockets


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
async def test_every_address_is_every_ipv4_one_without_ipv6(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    bind_one = sockets.bind_one

    def without_ipv6(
        family: int, address: tuple[Any, ...], *, shared: bool, dual: bool
    ) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "no IPv6 here")
        return bind_one(family, address, shared=shared, dual=dual)

    monkeypatch.setattr(sockets, "bind_one", without_ipv6)
    (bound,) = await sockets.bind("::", 0)
    with bound:
        assert bound.getsockname()[0] == "0.0.0.0"
    with pytest.raises(OSError, match="no IPv6 here"):
        await sockets.bind("::1", 0)
