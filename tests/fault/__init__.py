"""The crash oracle: a system under load is killed at every step, and nothing acknowledged may be missing or doubled."""
