"""Send the requests of captured files again, in their order.

Like Prometheus, it retries a request that is answered 5xx or not at all, until --retry-for has
passed; then the replay ends. A receiver that captures refuses the requests of a replay, which would
otherwise read what it records.

Example:
    receiver replay captures/*.jsonl --to http://127.0.0.1:9201/api/v1/write

The exit code is 0 if every request was answered 2xx, else 1.
"""

from __future__ import annotations

import ssl
from argparse import ArgumentParser, Namespace
from itertools import chain
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from receiver.clients.capture import read_capture
from receiver.clients.replay import Answer, Sender, Tally, name
from receiver.commands.arguments import base_url, duration, positive, read_token
from receiver.commands.terminal import open_console, say
from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import SetupError
from receiver.http import paths
from receiver.security.access import PUBLIC, Access, bearing, own_access
from receiver.security.contexts import client_context

SETTINGS: Final = (Section.SERVER,)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the files and the address to send to."""
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="made by capture")
    parser.add_argument(
        "--to", metavar="URL", type=target, help="where to send (default: the address of --listen)"
    )
    parser.add_argument(
        "--bearer-token-file",
        metavar="FILE",
        type=Path,
        help="file with a token for the receiver (default, without --to: RECEIVER_BEARER_TOKEN)",
    )
    parser.add_argument(
        "--client-cert-file",
        metavar="FILE",
        type=Path,
        help="client certificate with its key (PEM), for a receiver that requires one",
    )
    parser.add_argument(
        "--connections",
        metavar="N",
        type=positive,
        default=4,
        help="requests in flight at once; with 1, they are sent one after the other (default: 4)",
    )
    parser.add_argument(
        "--retry-for",
        metavar="DURATION",
        type=seconds,
        default="60s",
        help="how long a request is retried (default: 60s)",
    )


def target(url: str) -> str:
    """Check a URL to send to.

    Raises:
        ArgumentTypeError: it is not an HTTP URL.
    """
    return base_url(url, f"http://host:9201{paths.WRITE}")


def seconds(text: str) -> float:
    """Read a duration in seconds.

    Raises:
        ArgumentTypeError: it is malformed.
    """
    return duration(text).total_seconds()


async def run(settings: Settings, arguments: Namespace) -> int:
    """Send all requests, and print the results.

    Raises:
        CaptureError: a file is malformed; nothing is sent then.
        SetupError: the token or the certificate cannot be read.
    """
    access = find_access(settings, arguments)
    tally = Tally(sum(1 for file in arguments.files for _ in read_capture(file)))
    requests = chain.from_iterable(map(read_capture, arguments.files))
    sender = Sender(
        arguments.to or f"{settings.own_url}{paths.WRITE}",
        arguments.connections,
        arguments.retry_for,
        access,
    )
    with open_progress() as progress:
        bar = progress.add_task("", total=tally.total, rate="")

        def show(answer: Answer) -> None:
            if not answer.good and answer.status not in tally.counts:
                text = f"the first of {name(answer.status)}: {answer.text}"
                say(progress.console, text)
            tally.count(answer)
            progress.update(bar, advance=1, rate=tally.rate)

        await sender.send(requests, show)
    say(open_console(), tally.summary())
    return 0 if tally.complete else 1


def find_access(settings: Settings, arguments: Namespace) -> Access:
    """Return headers and TLS settings; without --to, those of the receiver in the settings.

    Raises:
        SetupError: a file cannot be read.
    """
    headers, tls = PUBLIC if arguments.to else own_access(settings)
    if arguments.bearer_token_file is not None:
        headers = bearing(read_token(arguments.bearer_token_file))
    if arguments.client_cert_file is not None:
        tls = tls or client_context()
        load_client_certificate(tls, arguments.client_cert_file)
    return Access(headers, tls)


def load_client_certificate(context: ssl.SSLContext, file: Path) -> None:
    """Load a certificate and its key.

    Raises:
        SetupError: the file does not hold both.
    """
    try:
        context.load_cert_chain(file, password="")
    except ssl.SSLError as error:
        raise SetupError(f"{file}: has no certificate with its key, both in PEM form") from error
    except OSError as error:
        raise SetupError(f"cannot read {file}: {error.strerror}") from error


def open_progress() -> Progress:
    """Return a progress bar on standard error, hidden if that is not a terminal."""
    console = Console(stderr=True, highlight=False)
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
