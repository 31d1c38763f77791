"""Measures the receiver against limits and peers on the same machine, in the same run."""
