"""Chargers over OCPP 1.6, 2.0.1 and 2.1: what they are made of, what they say, and what goes wrong with them."""
