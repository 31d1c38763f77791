"""Measures the receiver beside the limits and the peers of the same machine, in the same run."""
