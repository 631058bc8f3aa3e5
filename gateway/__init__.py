"""Terminate protocols and make bytes durable."""
