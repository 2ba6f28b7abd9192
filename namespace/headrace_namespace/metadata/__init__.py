"""What is known of objects without asking their store."""
