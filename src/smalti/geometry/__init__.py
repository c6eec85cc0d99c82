"""Pure functions on label maps: edges, distances, boxes."""
