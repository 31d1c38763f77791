"""What the web page shows: one module a part of it, each query bounded and led by an index."""
