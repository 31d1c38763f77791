"""Binds the sockets to listen on."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, Final

KERNEL_BUFFER: Final = 256 * 1024
"""Size of the kernel's buffers of a connection; the default allows megabytes."""
ANY_IPV4: Final = "0.0.0.0"  # noqa: S104  only where every address was asked for
UNAVAILABLE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


async def bind(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Bind a socket to each address of a host; `::` is every address, including IPv4.

    Args:
        host: A name or an address, an IPv6 one without brackets.
        port: 0 for any free port.
        shared: Whether other processes bind to the same address.

    Raises:
        OSError: the host does not exist, or none of its addresses can be bound.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        # All sockets use the port of the first one.
        place = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])
        try:
            sockets.append(bind_one(family, place, shared=shared, dual=host == "::"))
        except OSError as error:
            # A name may have an IPv6 address although the machine has none.
            if error.errno in UNAVAILABLE:
                missing = error
                continue
            for other in sockets:
                other.close()
            raise
    if missing is not None and not sockets:
        if host == "::":
            # The kernel has no IPv6 at all.
            return await bind(ANY_IPV4, port, shared=shared)
        raise missing
    return sockets


def bind_one(family: int, address: tuple[Any, ...], *, shared: bool, dual: bool) -> socket.socket:
    """Bind one socket.

    Raises:
        OSError: it cannot be bound.
    """
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            one.setsockopt(socket.SOL_SOCKET, buffer, KERNEL_BUFFER)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one
