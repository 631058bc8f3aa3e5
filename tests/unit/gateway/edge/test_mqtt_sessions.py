"""Parked sessions and wills."""

from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.records import Route
from gateway.edge.mqtt_sessions import PendingWill, SessionStore
from gateway.wire.mqtt.events import Session


def will(delay_s: int = 0) -> PendingWill:
    """Return a will."""
    return PendingWill(Route(TenantId("t"), DeviceId("d"), "mqtt", Channel("c")), b"gone", delay_s)


def resumed(store: SessionStore[str], *, clean_start: bool = False, now_s: float = 0, client_id: str = "c") -> object:
    """Return what `resume` gives for the key "k"."""
    return store.resume("k", client_id=client_id, clean_start=clean_start, now_s=now_s)


def test_session_is_given_back_within_its_expiry() -> None:
    """And only once."""
    store: SessionStore[str] = SessionStore()
    session = Session("c", 10)
    assert store.park("k", session, None, now_s=0) == []
    assert (session, []) == resumed(store, now_s=9.9)
    assert resumed(store, now_s=9.9) == (None, [])


def test_session_without_expiry_ends_with_its_connection() -> None:
    """Nothing is kept, and the will is due at once whatever its delay."""
    store: SessionStore[str] = SessionStore()
    assert [will(30)] == store.park("k", Session("c", 0), will(30), now_s=0)
    assert len(store) == 0


def test_other_client_id_clean_start_and_expiry_end_a_session() -> None:
    """Its waiting will is due then [MQTT-3.1.3-9]."""
    for how in ({"client_id": "x"}, {"clean_start": True}, {"now_s": 100.0}):
        store: SessionStore[str] = SessionStore()
        assert store.park("k", Session("c", 100), will(50), now_s=0) == []
        assert (None, [will(50)]) == resumed(store, **how)  # type: ignore[arg-type]
        assert len(store) == 0


def test_return_in_time_drops_the_will() -> None:
    """Nobody hears of a short absence."""
    store: SessionStore[str] = SessionStore()
    store.park("k", Session("c", 100), will(50), now_s=0)
    resumed(store, now_s=49)
    assert store.sweep(now_s=1000) == []


def test_will_is_due_after_its_delay_once() -> None:
    """The session goes on."""
    store: SessionStore[str] = SessionStore()
    store.park("k", Session("c", 100), will(50), now_s=0)
    assert [[], [will(50)], []] == [store.sweep(now_s=49), store.sweep(now_s=50), store.sweep(now_s=51)]
    assert len(store) == 1


def test_will_is_due_with_the_end_of_its_session_at_the_latest() -> None:
    """A delay past the expiry does not count."""
    store: SessionStore[str] = SessionStore()
    store.park("k", Session("c", 10), will(50), now_s=0)
    assert [will(50)] == store.sweep(now_s=10)
    assert len(store) == 0


def test_sessions_are_bounded() -> None:
    """The one parked longest goes, with its will."""
    store: SessionStore[int] = SessionStore(sessions_max=2)
    due = [store.park(i, Session("c", 100), will(i + 1), now_s=0) for i in range(3)]
    assert [[], [], [will(1)]] == due
    assert len(store) == 2


def test_forgotten_session_gives_up_its_will() -> None:
    """A revoked device's session ends at once."""
    store: SessionStore[str] = SessionStore()
    store.park("k", Session("c", 100), will(50), now_s=0)
    assert ([will(50)], []) == (store.forget("k"), store.forget("k"))
