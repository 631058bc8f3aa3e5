"""Devices and their credentials: the small state that people change by hand."""
