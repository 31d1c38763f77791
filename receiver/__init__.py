"""Prometheus remote-write receiver for PostgreSQL and TimescaleDB."""

__version__ = "0.2.0"
