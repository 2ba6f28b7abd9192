"""The cache of another process, as a `CacheService`."""
