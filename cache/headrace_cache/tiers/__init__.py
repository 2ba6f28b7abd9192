"""Where pages live: memory and the sealed SSD."""
