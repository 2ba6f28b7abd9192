"""Buckets of S3 and of what speaks its protocol. `backend.py` is the way in."""
