"""The lake's catalogue knows every column of the charging sessions."""

from processors.contracts.model import BASE_DESCRIPTIONS
from processors.stages.session_notes import SESSION_COMMENTS
from processors.stages.sessions import SESSIONS_SCHEMA


def test_every_column_of_a_session_has_a_comment() -> None:
    """Those that all tables have are described with the others."""
    assert set(SESSIONS_SCHEMA) == set(SESSION_COMMENTS) | (set(SESSIONS_SCHEMA) & set(BASE_DESCRIPTIONS))
