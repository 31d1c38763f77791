"""HTTP: request bodies, limits, connections and answers."""
