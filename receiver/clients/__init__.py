"""Clients of Prometheus and of other receivers."""
