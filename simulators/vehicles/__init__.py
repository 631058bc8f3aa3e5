"""Electric buses and cars: where they drive, what that costs, what they say about it."""
