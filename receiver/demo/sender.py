"""What the two senders share: Prometheus and the built-in one."""

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
    """Scrapes the applications and writes to the receiver."""

    description: str
    work: Callable[[], Coroutine[Any, Any, None]]
    """Scrapes and writes until cancelled; it ends by itself only with an error."""


def configuration_file() -> Path:
    """Return the path of `prometheus.yml`: in the package when installed, else beside it."""
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
    """Return the configuration with other targets, another receiver and another interval."""
    changed = copy.deepcopy(configuration)
    changed["scrape_configs"][0]["static_configs"] = [{"targets": list(targets)}]
    remote = changed["remote_write"][0]
    remote["url"] = url
    if url.startswith("https:"):
        # On this machine, so the certificate's names need not match.
        remote["tls_config"] = {"insecure_skip_verify": True}
    if token is not None:
        remote["authorization"] = {"credentials": token}
    if interval is not None:
        changed["global"]["scrape_interval"] = f"{interval // timedelta(milliseconds=1)}ms"
    return changed
