"""Read models over what the processors wrote."""
