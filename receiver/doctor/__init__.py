"""The checks of `receiver doctor` outside of the database.

A new check is a function that returns findings, and a line in its module's `CHECKS`.
"""
