"""Saved dashboards and rules for the tools that people already have: generated, committed, compared in CI. Pure."""
