"""What the notifier is to its process before and after it runs; the rest needs threads, see tests/integration."""

import io

import pytest

from gateway.journal.memory import MemoryJournal
from gateway.observe.logs import make_logger
from processors.notifier import Notifier, NotifierNumbers
from processors.sinks.outbox import read_deliveries
from tests.unit.processors.sinks.made_notices import AT_US, alert
from tests.unit.processors.sinks.test_notice_desk import plan, tell


@pytest.fixture
def journal():
    """Return an empty results journal."""
    return MemoryJournal()


@pytest.fixture
def notifier(tmp_path, journal):
    """Return a notifier that has not started; it never reaches anybody here."""
    made = Notifier(
        reader=journal,
        path=tmp_path / "notices.sqlite",
        plan=plan("ops"),
        senders={},
        log=make_logger(stream=io.StringIO()),
        now_us=lambda: AT_US,
    )
    yield made
    made.close()


def test_notifier_that_never_ran_is_well_and_has_counted_nothing(notifier):
    """A scrape may come before the first step."""
    assert None is notifier.check_live()
    assert None is notifier.check_ready()
    empty = NotifierNumbers(deliveries={}, suppressed={}, journal={}, kept={}, circuits={}, last_errors={}, cursor=0)
    assert empty == notifier.numbers()


def test_closing_what_never_started_is_nothing(notifier, tmp_path):
    """A process that fails to start closes its parts, twice if need be."""
    notifier.close()
    notifier.close()
    assert [] == list(tmp_path.iterdir())


def test_one_notifier_starts_once(tmp_path):
    """Two threads over one engine would tell everything twice."""
    made = Notifier(
        reader=MemoryJournal(),
        path=tmp_path / "notices.sqlite",
        plan=plan(),
        senders={},
        log=make_logger(stream=io.StringIO()),
        now_us=lambda: AT_US,
    )
    made.start()
    with pytest.raises(AssertionError, match="twice"):
        made.start()
    made.close()


def test_what_is_durable_at_a_stop_is_owed(tmp_path, journal):
    """A notifier that is told to end right after its start stores what the journal has."""
    made = Notifier(
        reader=journal,
        path=tmp_path / "notices.sqlite",
        plan=plan("ops"),
        senders={"webhook": None},  # type: ignore[dict-item]
        log=make_logger(stream=io.StringIO()),
        now_us=lambda: AT_US,
    )
    tell(journal, *(alert(n) for n in range(5)))
    made._is_stopping.set()
    made.start()
    made.close()
    assert 5 == len(read_deliveries(tmp_path / "notices.sqlite", state="queued"))
