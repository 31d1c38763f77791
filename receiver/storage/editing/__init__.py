"""Lists and edits what people enter: codes, the calendar of reports, comments."""
