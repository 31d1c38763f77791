"""The web page: what has come, for those who look with a browser.

A request goes from `pages` (one handler a page) over `parameters` to `storage.viewing`, and back
through `templates`; `editing` holds the only page that changes anything.
"""
