"""How an operator sees a process: metrics, logs, health, and the local HTTP port that serves them."""
