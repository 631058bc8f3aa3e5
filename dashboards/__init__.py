"""Show what the processors wrote."""
