"""Pure steps from journal entries to rows."""
