"""The ways in: what turns the cache service into fsspec files and, later, mounts and gateways."""
