"""The node: a process that owns the tiers of a host and lends their memory to others."""
