"""What a charger says about its sessions, and what is true of them. No network: calls are put, answers come back."""

import random
import uuid
from collections.abc import Callable
from functools import partial

from simulators.chargers import samples
from simulators.chargers.clock import iso
from simulators.chargers.faults import ChargerFaults
from simulators.chargers.hardware import Version
from simulators.chargers.link import Link, Outgoing
from simulators.chargers.messages_v2 import MessagesV2
from simulators.chargers.messages_v16 import MessagesV16
from simulators.chargers.meter import US_PER_HOUR
from simulators.chargers.outlet import Guest, Outlet
from simulators.chargers.records import Records
from simulators.chargers.session import Session
from simulators.chargers.truth import Payload, SessionTruth


class Telling:
    """Tells the sessions of one charger.

    Args:
        charger_id: Its name.
        version: Of OCPP.
        words: The version's payloads.
        link: Where calls go.
        faults: What goes wrong with them.
        records: Where truth goes.
        random_: Source of transaction ids.
        is_booted: Whether the server has told the time.
        say_status: Says how an outlet is.
    """

    def __init__(
        self,
        *,
        charger_id: str,
        version: Version,
        words: MessagesV16 | MessagesV2,
        link: Link,
        faults: ChargerFaults,
        records: Records,
        random_: random.Random,
        is_booted: Callable[[], bool],
        say_status: Callable[[Outlet, str], None],
    ) -> None:
        self._charger_id, self._version, self._words, self._link = charger_id, version, words, link
        self._faults, self._records, self._random = faults, records, random_
        self._is_booted, self._say_status = is_booted, say_status
        self._plugs_first = version != "1.6" and random_.random() < 0.5
        self._open: dict[int, SessionTruth] = {}
        self.begun = 0
        """Sessions."""

    def close(self) -> None:
        """Write the truth of sessions that have not ended, or whose end is not answered."""
        for truth in self._open.values():
            self._records.session(truth)
        self._open.clear()

    def begin(self, outlet: Outlet, guest: Guest, at_us: int) -> Session:
        """Begin a session of who is plugged in, and say so. The outlet must be settled at `at_us`."""
        sample, reservation = outlet.sample(), outlet.reserved_at(at_us)
        truth = SessionTruth(
            charger=self._charger_id,
            version=self._version,
            connector=self._words.connector(outlet.place),
            id_token=guest.token.text,
            vin=guest.token.vin if self._version != "1.6" else None,
            vehicle=guest.vehicle,
            started_at=iso(sample.at_us),
            meter_start_wh=sample.energy_wh,
            meter_stop_wh=sample.energy_wh,
        )
        session = Session(
            place=outlet.place,
            token=guest.token,
            truth=truth,
            began_us=sample.at_us,
            delivered_before_wus=outlet.register.delivered_wus,
            remote_start_id=guest.remote_start_id,
            reservation_id=reservation.number if reservation is not None else None,
        )
        if self._version != "1.6":
            session.transaction_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            truth.transaction_ids.append(str(session.transaction_id))
        if self._faults.clock_offset_us:
            truth.faults.add("wrong_clock")
        outlet.reservation, outlet.session, self.begun = None, session, self.begun + 1
        self._open[id(truth)] = truth
        self._start(outlet, session)
        return session

    def _start(self, outlet: Outlet, session: Session) -> None:
        """Say that it begins: with the driver, or with the cable and then the driver."""
        offline, sample = not self._link.is_ready, outlet.sample()
        first = "Authorized" if session.remote_start_id is None else "RemoteStart"
        plugs_first = self._plugs_first and session.remote_start_id is None
        build = self._words.start(session, sample, offline=offline, trigger="CablePluggedIn" if plugs_first else first)
        self._say(session, self._words.start_action, build, on_answer=partial(self._started, outlet, session))
        if plugs_first:
            self._say_update(session, outlet, "Authorized")

    def _started(self, outlet: Outlet, session: Session, answer: Payload | None) -> None:
        if answer is None:
            return
        session.truth.started = True
        if self._version == "1.6":
            session.transaction_id = answer["transactionId"]
            session.truth.transaction_ids.append(str(session.transaction_id))
        self._judged(outlet, session, answer)

    def _judged(self, outlet: Outlet, session: Session, answer: Payload | None) -> None:
        """End the session when the server does not know the driver."""
        if not is_accepted(answer) and session.stop_reason is None:
            session.stop_reason = "Deauthorized"
            outlet.wake()

    def note_state(self, outlet: Outlet, session: Session) -> None:
        """Say that the vehicle draws, or who holds it back, when that has changed."""
        state = outlet.charging_state
        if state == session.charging_state:
            return
        session.charging_state = state
        self._say_status(outlet, state)
        if self._version != "1.6":
            self._say_update(session, outlet, "ChargingStateChanged")

    def _say_update(self, session: Session, outlet: Outlet, trigger: str) -> None:
        """Say a 2.x event in between, with the register alone."""
        sample = outlet.sample()
        build = self._words.update(
            session, sample, offline=not self._link.is_ready, trigger=trigger, values=samples.register(sample)
        )
        self._count_sample(session, sample.energy_wh)
        self._say(session, self._words.update_action, build, on_answer=partial(self._judged, outlet, session))

    def meter(self, outlet: Outlet, session: Session, trigger: str) -> None:
        """Say all that the meter shows, perhaps with dirt."""
        self._send_meter(session, self._update(outlet, session, trigger))

    def _update(self, outlet: Outlet, session: Session, trigger: str) -> Callable[[], Payload]:
        sample = outlet.sample()
        self._count_sample(session, sample.energy_wh)
        return self._words.update(
            session, sample, offline=not self._link.is_ready, trigger=trigger, values=samples.values(sample)
        )

    def _count_sample(self, session: Session, energy_wh: int) -> None:
        session.truth.meter_values += 1
        session.truth.meter_stop_wh = energy_wh

    def _send_meter(self, session: Session, build: Callable[[], Payload]) -> None:
        dirt = self._faults.of_meter_value()
        if dirt is not None:
            session.truth.faults.add(dirt.name)
            if dirt.flag is not None:
                session.truth.flags.add(dirt.flag)
        self._say(session, self._words.update_action, build, twist=dirt.twist if dirt is not None else None)

    def end(self, outlet: Outlet, session: Session) -> None:
        """Say that it is over, unless this session is one of those that never say it."""
        truth, offline = session.truth, not self._link.is_ready
        late = self._update(outlet, session, "MeterValuePeriodic") if "late_meter" in truth.faults else None
        sample = outlet.sample()
        outlet.session = None
        truth.delivered_wh = (outlet.register.delivered_wus - session.delivered_before_wus) // US_PER_HOUR
        truth.battery_wh = outlet.guest.load.battery_wh if outlet.guest is not None else None
        if "no_stop" not in truth.faults:
            session.charging_state = "EVConnected"
            build = self._words.stop(session, sample, offline=offline, trigger="EVDeparted")
            truth.ended_at, truth.stop_reason = iso(sample.at_us), session.stop_reason
            truth.meter_stop_wh = sample.energy_wh
            self._say(session, self._words.stop_action, build, on_answer=partial(self._stopped, truth))
        truth.energy_wh = truth.meter_stop_wh - truth.meter_start_wh
        truth.is_over = True
        if late is not None:
            self._send_meter(session, late)
        self._write_if_settled(truth)

    def _stopped(self, truth: SessionTruth, answer: Payload | None) -> None:
        truth.stopped = answer is not None

    def _say(
        self,
        session: Session,
        action: str,
        build: Callable[[], Payload],
        *,
        on_answer: Callable[[Payload | None], None] | None = None,
        twist: Callable[[Payload], Payload] | None = None,
    ) -> None:
        """Put a call of a session, which outlives connections, and count it in the session's truth."""
        truth = session.truth
        if self._faults.clock_unset and not self._is_booted():
            truth.flags.add("clock_unset")
            truth.faults.add("clock_unset")
        if self._faults.is_clamped:
            truth.flags.add("clock_clamped")

        def answered(answer: Payload | None) -> None:
            truth.answered += answer is not None
            truth.unsettled -= 1
            if on_answer is not None:
                on_answer(answer)
            self._write_if_settled(truth)

        copies = self._faults.copies()
        if copies > 1:
            truth.faults.add("duplicate")
        out = Outgoing(action=action, build=build, keep=True, on_answer=answered, twist=twist, copies=copies)
        if self._link.put_nowait(out):
            truth.calls += 1
            truth.unsettled += 1

    def _write_if_settled(self, truth: SessionTruth) -> None:
        if truth.is_over and not truth.unsettled and self._open.pop(id(truth), None) is not None:
            self._records.session(truth)


def is_accepted(answer: Payload | None) -> bool:
    """Return whether a driver may charge: the server says so, says nothing of it, or is away."""
    said = (answer or {}).get("idTagInfo") or (answer or {}).get("idTokenInfo") or {}
    return bool(said.get("status", "Accepted") == "Accepted")
