"""Logs and metrics of the receiver."""
