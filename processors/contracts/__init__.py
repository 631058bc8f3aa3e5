"""One data contract per stream, and everything derived from it."""
