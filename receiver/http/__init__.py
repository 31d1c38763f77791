"""HTTP: request bodies, limits, connections and responses."""
