"""From rows of the lake to documents of an index: what is indexed, under which name and id, and how. Pure."""
