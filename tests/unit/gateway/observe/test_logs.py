"""Logs: one inert line per event, without secrets."""

import errno
import io
import json
from typing import Any

import pytest

from gateway.observe.logs import Logger, make_logger

SECRET = "canary-4711"


def logged(**fields: Any) -> dict[str, Any]:
    stream = io.StringIO()
    make_logger(stream=stream, secrets=[SECRET, "ab"], process="gateway").info("it_happened", **fields)
    (line,) = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_an_event_is_one_json_object_with_level_and_time() -> None:
    """Machines read it line by line."""
    event = logged(n=3, ratio=0.5, none=None, yes=True)
    assert event.pop("at").endswith("Z")
    assert event == {
        "event": "it_happened",
        "level": "info",
        "process": "gateway",
        "n": 3,
        "ratio": 0.5,
        "none": None,
        "yes": True,
    }


@pytest.mark.parametrize("form", ["json", "console"])
def test_peer_text_cannot_forge_a_line_or_colour_a_terminal(form: Any) -> None:
    """Whatever a device calls itself, the log has one line per event and no control characters."""
    stream = io.StringIO()
    hostile = 'ev\n{"event": "forged"}\r\x1b[31m\u202e\0'
    make_logger(form=form, stream=stream).info(
        "refused", device=hostile, raw=hostile.encode(), nested={hostile: [hostile]}
    )
    (line,) = stream.getvalue().splitlines()
    assert [c for c in line if not c.isprintable()] == []
    assert "x1b[31m" in line


def test_long_text_is_cut() -> None:
    """A log line has a size, whoever fills it."""
    assert len(json.dumps(logged(text="x" * 100_000))) < 2_000


@pytest.mark.parametrize("name", ["password", "db_password", "Authorization", "admin_token", "api_key"])
def test_a_field_with_a_secrets_name_is_redacted(name: str) -> None:
    """Also when nobody declared the value."""
    assert logged(**{name: "unheard of"})[name] == "[redacted]"
    assert logged(outer={name: "unheard of"})["outer"][name] == "[redacted]"


def test_a_declared_secret_is_redacted_wherever_it_appears() -> None:
    """In text, in lists, in nested fields; a secret too short to tell from words is not searched for."""
    event = logged(detail=f"postgresql://u:{SECRET}@db", hosts=[f"x{SECRET}"], deep={"a": {"b": SECRET}}, word="abc")
    assert SECRET not in json.dumps(event)
    assert event["word"] == "abc"
    assert event["detail"] == "postgresql://u:[redacted]@db"


def failing(log: Logger) -> None:
    try:
        int(f"\x1b[31m and {SECRET}")
    except ValueError:
        log.exception("failed")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_kept_inert_and_redacted(form: Any) -> None:
    """Our own bugs need their lines; what a peer said in the message is still inert."""
    stream = io.StringIO()
    failing(make_logger(form=form, stream=stream, secrets=[SECRET]))
    text = stream.getvalue()
    assert "ValueError: invalid literal" in text
    assert "\x1b" not in text
    assert SECRET not in text


def test_events_below_the_level_are_not_written() -> None:
    """The operator chooses how much it is."""
    stream = io.StringIO()
    log = make_logger(stream=stream, level="warning")
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_a_full_disk_costs_the_line_and_not_the_process() -> None:
    """The log often lies on the disk whose being full is to be logged."""

    class FullDisk(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

    make_logger(stream=FullDisk()).error("journal_not_durable")
