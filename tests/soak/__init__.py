"""Voltgate under a steady load for minutes, with an outage of OpenSearch in the middle: `python -m tests.soak`."""
