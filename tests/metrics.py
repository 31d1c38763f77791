"""Parses `/metrics`, for tests that compare the metrics with what happened."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families


def exposed(text: str) -> dict[str, float]:
    """Return each value by its series, with sorted labels and no empty ones, as in Prometheus."""
    return {
        name + (f"{{{labels}}}" if labels else ""): value
        for family in text_string_to_metric_families(text)
        for name, labels, value in (
            (sample.name, written(sample.labels), sample.value) for sample in family.samples
        )
    }


def written(labels: dict[str, str]) -> str:
    shown = ((name, value) for name, value in sorted(labels.items()) if value)
    return ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in shown)
