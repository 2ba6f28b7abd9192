"""Pages of objects laid into extents, and the one gate to the tiers."""
