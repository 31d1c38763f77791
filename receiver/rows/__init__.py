"""Turns samples into rows; nothing here does I/O."""
