"""Creates and changes tables, and deletes what is too old."""
