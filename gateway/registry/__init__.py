"""Devices and their credentials."""
