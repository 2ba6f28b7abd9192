"""The lowest layer: paths, identity, the mount table, metadata and the stores themselves."""
