"""The web page that shows the stored data.

A request goes from a handler (`pages` has one per page) through `parameters` to `storage.reading`,
and back through the templates. `editing`, `calendar_pages` and `source_page` accept forms.
"""
