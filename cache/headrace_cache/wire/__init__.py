"""What a node and its clients say to each other; both ends read these rooms."""
