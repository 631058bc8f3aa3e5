"""Pure types that travel, and the bounds and errors everybody shares."""
