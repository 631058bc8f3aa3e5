"""`voltgate alerts test` and `voltgate alerts notices`: whether receivers are reached, and a second chance for them."""

import time
from collections.abc import Callable, Iterable, Sequence

from gateway.core.settings import Settings
from processors.sinks.outbox import read_deliveries, retry
from processors.sinks.outbox_schema import Delivery, DeliveryState
from voltgate.alert_commands import OPERATORS, POLL_S, WAIT_S, operator, outbox_path, put_order
from voltgate.alert_view import NOTICE_COLUMNS, notice_json, notice_row
from voltgate.output import Exit, cell, print_json, print_rows, say


def send_test(settings: Settings, receiver: str, *, tenant: str, by: str | None, wait: bool, as_json: bool) -> int:
    """Order a test notice to one receiver, and wait for what becomes of it."""
    path = outbox_path(settings)
    newest = max((notice.seq for notice in read_deliveries(path, receiver=receiver, limit=1)), default=0)
    put_order(settings, tenant, OPERATORS, {"kind": "test", "receiver": receiver, "by": by or operator()})
    if not wait:
        say(f"a test to {receiver} is ordered; `voltgate alerts notices ls` shows it in a moment")
        return Exit.OK
    found = await_test(lambda: read_deliveries(path, receiver=receiver), newest, give_up_s=WAIT_S)
    if found is None:
        say(
            f"voltgate: no test was made for {receiver!r} within {WAIT_S:g} s; is it in alerts.yaml (`voltgate check`)?"
        )
        return Exit.TIMEOUT
    if as_json:
        print_json(notice_json(found))
    if found.state == "sent":
        say(f"{receiver} took the test")
        return Exit.OK
    say(f"voltgate: {receiver} has not taken the test: {cell(found.last_error or 'no answer yet')} ({found.state})")
    return Exit.TIMEOUT if found.state == "queued" else Exit.FAILED


def await_test(
    read: Callable[[], Iterable[Delivery]],
    newest: int,
    *,
    give_up_s: float,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Delivery | None:
    """Return the first test delivery after the one numbered `newest`, once it has ended or time is up."""
    give_up_at_s = now() + give_up_s
    while True:
        tests = [notice for notice in read() if notice.reason == "test" and notice.seq > newest]
        found = min(tests, key=lambda notice: notice.seq, default=None)
        if (found is not None and found.state != "queued") or now() >= give_up_at_s:
            return found
        sleep(POLL_S)


def list_notices(settings: Settings, *, is_dead: bool, receiver: str | None, limit: int, as_json: bool) -> None:
    """Print what receivers were sent, newest first; with `is_dead` what was given up. Needs no gateway."""
    state: DeliveryState | None = "dead" if is_dead else None
    notices = read_deliveries(outbox_path(settings), state=state, receiver=receiver, limit=limit)
    print_rows(NOTICE_COLUMNS, [notice_row(notice) for notice in notices], as_json=as_json)


def retry_notices(settings: Settings, ids: Sequence[str], *, all_dead: bool) -> int:
    """Queue dead notices again; a running notifier sends them within a second."""
    if bool(ids) == all_dead:
        say("voltgate: name notices, or say --all-dead; `voltgate alerts notices ls --dead` lists them")
        return Exit.USAGE
    again = retry(outbox_path(settings), ids, now_us=time.time_ns() // 1000)
    if not again:
        say("voltgate: no such dead notice; `voltgate alerts notices ls --dead` lists them")
        return Exit.NOT_FOUND
    say(f"{len(again)} notices are queued again")
    return Exit.OK
