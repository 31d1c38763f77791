"""Connects to the database."""
