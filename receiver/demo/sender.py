"""What the two senders share: Prometheus, and the one built in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

Configuration: TypeAlias = dict[str, Any]
"""The content of a `prometheus.yml`."""


class Sender(NamedTuple):
    """Who scrapes the applications and writes to the receiver."""

    description: str
    work: Callable[[], Coroutine[Any, Any, None]]
    """Scrapes and writes until it is cancelled; it ends only by failing."""


def configuration_file() -> Path:
    """Where `prometheus.yml` is: in the package when installed, else beside it."""
    package = Path(__file__).parents[1]
    packaged = package / "prometheus.yml"
    return packaged if packaged.is_file() else package.parent / "prometheus.yml"


def load_configuration() -> Configuration:
    """Read `prometheus.yml`."""
    configuration: Configuration = yaml.safe_load(configuration_file().read_text(encoding="utf-8"))
    return configuration


def redirect(
    configuration: Configuration,
    *,
    targets: Sequence[str],
    url: str,
    interval: timedelta | None = None,
    token: str | None = None,
) -> Configuration:
    """The same configuration, but for whom it scrapes, where and how it writes, and how often."""
    changed = copy.deepcopy(configuration)
    changed["scrape_configs"][0]["static_configs"] = [{"targets": list(targets)}]
    remote = changed["remote_write"][0]
    remote["url"] = url
    if url.startswith("https:"):
        # On this machine, where the certificate's names need not fit.
        remote["tls_config"] = {"insecure_skip_verify": True}
    if token is not None:
        remote["authorization"] = {"credentials": token}
    if interval is not None:
        changed["global"]["scrape_interval"] = f"{interval // timedelta(milliseconds=1)}ms"
    return changed
