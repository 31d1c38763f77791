"""Creates and changes tables, and deletes rows that are too old."""
