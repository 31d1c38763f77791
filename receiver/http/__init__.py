"""Takes requests over HTTP: bodies, limits, connections and answers."""
