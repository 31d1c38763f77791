"""Reads settings and the catalogue of tables, and documents them."""
