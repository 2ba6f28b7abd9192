"""The write journey: staged in memory, sent to the store, warm for readers."""
