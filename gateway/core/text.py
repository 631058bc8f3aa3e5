"""How text from a peer may enter a log, an error or a terminal."""

from gateway.core.limits import TEXT_CHARS_MAX


def peer_text(text: str | bytes, *, chars_max: int = TEXT_CHARS_MAX) -> str:
    """Return the text made inert: one line, printable, capped. Control and direction characters become escapes."""
    shown = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    cut = shown[:chars_max]
    inert = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return inert + ("..." if len(shown) > chars_max else "")
