"""Code that both senders share: Prometheus and the built-in one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

from receiver.http import paths

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


def redirect(  # noqa: PLR0913  what the demo changes
    configuration: Configuration,
    *,
    targets: Mapping[str, str],
    url: str,
    interval: timedelta | None = None,
    token: str | None = None,
    metrics: Collection[str] = (),
) -> Configuration:
    """Return the configuration with other targets, another receiver and another interval.

    Args:
        configuration: The content of a `prometheus.yml`.
        targets: HOST:PORT of each application, by its label `instance`.
        url: The receiver's write endpoint.
        interval: Time between two scrapes; None: as configured.
        token: Bearer token, if the receiver needs credentials.
        metrics: Metrics to send; empty: as configured.
    """
    changed = copy.deepcopy(configuration)
    changed["scrape_configs"][0]["static_configs"] = [
        {"targets": [target], "labels": {"instance": name}} for name, target in targets.items()
    ]
    write, read = changed["remote_write"][0], changed["remote_read"][0]
    write["url"], read["url"] = url, url.removesuffix(paths.WRITE) + paths.READ
    if metrics:
        write["write_relabel_configs"] = [
            {"source_labels": ["__name__"], "regex": "|".join(metrics), "action": "keep"}
        ]
    for remote in (write, read):
        if url.startswith("https:"):
            # The receiver is on this machine, so the certificate's names need not match.
            remote["tls_config"] = {"insecure_skip_verify": True}
        if token is not None:
            remote["authorization"] = {"credentials": token}
    if interval is not None:
        changed["global"]["scrape_interval"] = f"{interval // timedelta(milliseconds=1)}ms"
    return changed
