"""One file for each kind of store, and the wrappers that every store wears."""
