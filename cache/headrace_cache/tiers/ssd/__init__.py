"""The sealed SSD tier. `opening.py` is the way in, `tier.py` tells how pages go and come."""
