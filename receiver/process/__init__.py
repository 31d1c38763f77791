"""Runs the receiver as processes: the application, its server, workers and their shutdown."""
