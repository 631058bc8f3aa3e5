"""Append-only segments on disk: durable before acknowledged."""
