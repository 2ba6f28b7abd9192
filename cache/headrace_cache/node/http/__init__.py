"""The node's second door: HTTP/1.1, for clients of other hosts."""
