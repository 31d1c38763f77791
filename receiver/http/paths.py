"""Paths that senders, scrapers and health checks request; `web.routes` has those of the pages."""

from __future__ import annotations

from typing import Final

WRITE: Final = "/api/v1/write"
READ: Final = "/api/v1/read"
METRICS: Final = "/metrics"
HEALTHY: Final = "/-/healthy"
READY: Final = "/-/ready"

UNAUTHENTICATED: Final = frozenset({HEALTHY, READY})
"""Paths that need no credentials: load balancers and container engines have none."""
