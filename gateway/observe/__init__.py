"""Metrics, logs and health of one process."""
