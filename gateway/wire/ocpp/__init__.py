"""OCPP 1.6J, 2.0.1 and 2.1: frames, schemas, the conversation with a charging station, and what we say in it."""
