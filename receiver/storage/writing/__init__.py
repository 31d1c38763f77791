"""Commits samples, in few transactions and each exactly once."""
