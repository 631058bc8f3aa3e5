"""Real servers and foreign clients for the integration tests: found, installed into a cache, started, stopped."""
