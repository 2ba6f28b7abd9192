"""The middle layer: pages, extents, tiers, the policy gate and the read journey."""
