"""From an HTTP body to samples: content negotiation, decompression, decoding.

Nothing here knows aiohttp or the database.
"""
