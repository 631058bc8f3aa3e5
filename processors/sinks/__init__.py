"""Stores, each with its own transactions."""
