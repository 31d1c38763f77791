"""Reads rows for pages and commands; each query is bounded and led by an index."""
