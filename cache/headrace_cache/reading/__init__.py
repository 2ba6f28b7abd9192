"""The read journey and its parts."""
