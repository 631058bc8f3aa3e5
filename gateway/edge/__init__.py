"""Sockets: who may speak, how much, how often."""
