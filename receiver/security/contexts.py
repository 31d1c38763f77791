"""TLS contexts that accept the same certificates on every version of Python."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable

logger = logging.getLogger(__name__)


def verify_alike(context: ssl.SSLContext) -> None:
    """Set the certificate checks, independently of Python's defaults.

    Since Python 3.13, `create_default_context` refuses certificates that lack extensions of
    RFC 5280, which many private authorities issue, and trusts intermediate authorities.
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def client_context(trusted: str | None = None) -> ssl.SSLContext:
    """Return a context for clients.

    Args:
        trusted: Trusted certificates (PEM); None: those of the system.

    Raises:
        ssl.SSLError: the certificates are broken.
    """
    context = ssl.create_default_context(cadata=trusted)
    verify_alike(context)
    return context


class Handshake(ssl.SSLObject):
    """The server's side of a TLS connection; logs why a handshake fails, which asyncio does not."""

    def do_handshake(self) -> None:
        """Continue the handshake.

        Raises:
            ssl.SSLError: the handshake fails, or needs more data from the client.
        """
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            reason = describe(error)
            logger.warning("a TLS handshake failed: %s", reason, extra={"fault": f"TLS {reason}"})
            raise


def describe(error: ssl.SSLError) -> str:
    """Return why a handshake failed, for the server's log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is refused: {error.verify_message}"
    if error.reason == "HTTP_REQUEST":
        return "plain HTTP was sent where HTTPS is served"
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "alert" in reason:
        return f"the client ended it: {reason}"
    return reason


class ServerContext(ssl.SSLContext):
    """A server's TLS context; its sessions cannot be resumed in another context."""

    sslobject_class = Handshake
    authorities: frozenset[str] = frozenset()
    """The certificates (PEM) of the authorities that may sign client certificates."""


def server_context() -> ServerContext:
    """Return a server's context without certificates."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Tickets would outlive the authorities that the client's certificate was checked against.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    verify_alike(context)
    return context


class LatestContext(ssl.SSLContext):
    """A context that opens each new connection in the latest context.

    So all files change together, and a session of an older context, if OpenSSL keeps it, cannot be
    resumed: the client must present its certificate again.
    """

    latest: Callable[[], ServerContext]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Open a connection in the latest context."""
        return self.latest().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
