"""headrace: one tree over many stores, a cache beside the compute."""
