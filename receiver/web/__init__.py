"""The web page that shows the stored data.

A request goes from `pages` (one handler a page) over `parameters` to `storage.viewing`, and back
through `templates`; `editing` holds the only page that changes anything.
"""
