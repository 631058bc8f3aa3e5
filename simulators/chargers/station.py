"""One charger: boots, lets vehicles charge, says what its version says about it, and does what it is told.

Owns the life on its outlets; the connection is `Link`'s, the words are `MessagesV16`'s or `MessagesV2`'s, the power is
shared here.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

from simulators.chargers.clock import Clock, iso
from simulators.chargers.faults import HALF_OPEN_S, ChargerFaultRates, ChargerFaults
from simulators.chargers.hardware import Hardware, Version, share_w
from simulators.chargers.link import CentralSystem, Link, Outgoing
from simulators.chargers.messages_v2 import MessagesV2
from simulators.chargers.messages_v16 import MessagesV16
from simulators.chargers.meter import US_PER_S
from simulators.chargers.outlet import Guest, Outlet, places
from simulators.chargers.profiles import Profiles
from simulators.chargers.records import Records
from simulators.chargers.routes import Handler
from simulators.chargers.session import Session, Token
from simulators.chargers.settings import HEARTBEAT, METER, Settings
from simulators.chargers.telling import Telling, is_accepted
from simulators.chargers.truth import Payload
from simulators.chargers.visits import Car, Visitors
from simulators.scenarios.charger_faults import CHARGER_FAULTS, charger_truth
from simulators.scenarios.orders import FaultOrder

OFFLINE_FIRST_S = 3.0
"""How long a charger whose clock is unset lives before it connects, real seconds."""
UNPLUG_S = 4.0
"""From the end of a session until the cable is back, simulated seconds."""
FAULT_WAITS_S = 10.0
HANGS_S = 3_600.0
"""How long an outlet that forgot to end a session serves nobody, simulated seconds: then somebody restarts it."""
_FAR_US = 400 * 86_400 * US_PER_S


class Station:
    """One charger.

    Args:
        charger_id: Its name.
        version: Of OCPP.
        hardware: Its type.
        server: Whom it talks to.
        clock: Simulated time.
        seed: The same seed lives the same life, as far as the server answers the same.
        rates: What goes wrong.
        records: Where truth goes.
        handlers: Makes what answers commands.
        meter_interval_s: Between two meter values, simulated.
        visitors: Makes the source of anonymous vehicles, None for a charger that only known ones use.
        scenarios: What befalls it, each at its first connector that can have it.
        make_link: Makes its connection.
    """

    def __init__(
        self,
        *,
        charger_id: str,
        version: Version,
        hardware: Hardware,
        server: CentralSystem,
        clock: Clock,
        seed: int | str,
        rates: ChargerFaultRates,
        records: Records,
        handlers: "Callable[[Station], Mapping[str, Handler]]",
        meter_interval_s: int,
        visitors: Callable[[random.Random], Visitors] | None,
        scenarios: Sequence[FaultOrder] = (),
        make_link: Callable[..., Link] = Link,
    ) -> None:
        self.charger_id, self.version, self.hardware, self.clock = charger_id, version, hardware, clock
        self._random = random.Random(f"{seed}/{charger_id}")
        self.faults = ChargerFaults(rates, seed=f"{seed}/{charger_id}/faults", version=version)
        words = MessagesV16 if version == "1.6" else MessagesV2
        self.words: MessagesV16 | MessagesV2 = words(self.stamp, with_data=self._random.random() < 0.5)
        found = places(hardware, version)
        self.outlets = [
            Outlet(place, hardware, start_wh=self._random.randrange(100_000_000), has_temperature=version == "1.6")
            for place in found
        ]
        self.profiles = Profiles()
        self.settings = Settings(
            is_v16=version == "1.6", connectors=len(self.outlets), meter_interval_s=meter_interval_s
        )
        self._visitors = visitors(self._random) if visitors is not None else None
        self._is_booted = False
        self._boot_reason: str | None = "PowerUp"
        self._reset_when_idle = False
        self._began_us, self._records = clock.now_us(), records
        self._scenarios, self._zombies = scenarios, 0
        self._afterwards: list[Callable[[], None]] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self.link = make_link(
            charger_id=charger_id,
            version=version,
            server=server,
            random_=self._random,
            handlers=handlers(self),
            after_answer=self._after_answer,
            boot=self._boot,
            on_ready=self._ready,
            on_answered=records.answered,
        )
        self.telling = Telling(
            charger_id=charger_id,
            version=version,
            words=self.words,
            link=self.link,
            faults=self.faults,
            records=records,
            random_=self._random,
            is_booted=lambda: self._is_booted,
            say_status=self.say_status,
        )

    # ---- life --------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Keep the connection until cancelled. Raises: SimulationError: The server refuses this charger."""
        if self.faults.clock_unset:
            await asyncio.sleep(OFFLINE_FIRST_S)
        await self.link.run()

    async def live(self) -> None:
        """Let vehicles charge until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._heartbeat(), name=f"{self.charger_id}-heartbeat")
            for order in self._scenarios:
                tasks.create_task(self._befall(order), name=f"{self.charger_id}-{order.kind}")
            for outlet in self.outlets:
                tasks.create_task(self._serve(outlet), name=f"{self.charger_id}-{outlet.place.number}")

    def finish(self) -> None:
        """End all sessions, as somebody does who switches a site off properly."""
        for timer in self._timers:
            timer.cancel()
        self.balance(self.clock.now_us())
        for outlet in self.outlets:
            if outlet.session is not None:
                outlet.session.stop_reason = outlet.session.stop_reason or "StopAuthorized"
                self._end(outlet, outlet.session)

    def close(self) -> None:
        """Write the truth of sessions that have not ended, or whose end is not answered."""
        self.telling.close()

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.9, 1.0) * max(self.settings.number(HEARTBEAT), 1))
            if self.link.is_ready:
                self.say("Heartbeat", {})

    async def _serve(self, outlet: Outlet) -> None:
        """One outlet: wait for somebody, let them charge, again."""
        is_first = True
        while True:
            if (guest := outlet.guest) is None:
                await self._until_guest(outlet, is_first=is_first)
                is_first = False
                continue
            await self._charge(outlet, guest)

    async def _until_guest(self, outlet: Outlet, *, is_first: bool) -> None:
        """Wait until somebody is plugged in or asked for, or until the next vehicle's time has come."""
        now_us = self.clock.now_us()
        until_us = now_us + _FAR_US
        if self._visitors is not None:
            gap_s = self._visitors.gap_s(now_us)
            # A fleet that starts must not stand idle for its first hour.
            until_us = now_us + int((gap_s * self._random.random() ** 2 if is_first else gap_s) * US_PER_S)
        if await self.clock.wait(until_us, outlet.woken) or self._visitors is None:
            return
        if self.is_usable(outlet) and outlet.reserved_at(until_us) is None:
            token = Token(text=f"RFID{self._random.randrange(16**8):08X}")
            outlet.plug_in(Guest(load=Car(self._visitors.next(), until_us), token=token), until_us)

    async def _charge(self, outlet: Outlet, guest: Guest) -> None:
        self.say_status(outlet, "Preparing")
        if guest.remote_start_id is not None or await self._authorized(guest.token):
            session = self._begin(outlet, guest)
            await self._go_on(outlet, session)
            if outlet.session is session:
                self._end(outlet, session)
        outlet.unplug()
        self.balance(self.clock.now_us())
        await asyncio.sleep(max(self.clock.real_s(self.clock.now_us() + int(UNPLUG_S * US_PER_S)), 0.0))
        outlet.woken.clear()
        self.say_status(outlet, "Available" if outlet.is_operative else "Unavailable")
        self._reset_if_idle()
        if outlet.hangs:
            await asyncio.sleep(max(self.clock.real_s(self.clock.now_us() + int(HANGS_S * US_PER_S)), 0.0))
            outlet.hangs = False

    async def _go_on(self, outlet: Outlet, session: Session) -> None:
        """Report until something ends the session."""
        assert outlet.guest is not None
        load, strikes, tick = outlet.guest.load, self.faults.of_session(), 0
        session.truth.faults |= {name for name in ("no_stop", "late_meter") if name in strikes}
        next_us = session.began_us + self.settings.number(METER) * US_PER_S
        while session.stop_reason is None:
            woken = await self.clock.wait(next_us, outlet.woken)
            self.balance(self.clock.now_us() if woken else next_us)
            if load.is_leaving and session.stop_reason is None:
                session.stop_reason = "EVDeparted"
            if session.stop_reason is not None:
                return
            self.telling.note_state(outlet, session)
            if not woken:
                tick += 1
                next_us += max(self.settings.number(METER), 1) * US_PER_S
                self._strike(outlet, session, [name for name, when in strikes.items() if when == tick])
                self.telling.meter(outlet, session, "MeterValuePeriodic")

    async def _befall(self, order: FaultOrder) -> None:
        """Wait for the moment of a fault and for a vehicle, without which nobody could see it, and let it begin."""
        next_us = self._began_us + round(order.at_s * US_PER_S)
        while True:
            await asyncio.sleep(max(self.clock.real_s(next_us), 0.0))
            busy = [(outlet, outlet.session) for outlet in self.outlets if outlet.session is not None]
            going = [(outlet, session) for outlet, session in busy if session.stop_reason is None]
            if going:
                break
            next_us += int(FAULT_WAITS_S * US_PER_S)
        outlet, session = going[0]
        if order.kind == "zombie":
            self._zombies += 1
            session.stop_reason = "EVDeparted"
        else:
            outlet.able = CHARGER_FAULTS[order.kind].able
            self._note(order.kind, outlet)
        outlet.wake()

    def _note(self, kind: str, outlet: Outlet) -> None:
        part = self.words.connector(outlet.place)
        truth = charger_truth(kind, device_id=self.charger_id, part=part, began_us=self.clock.now_us())
        self._records.fault(truth)

    def _strike(self, outlet: Outlet, session: Session, names: list[str]) -> None:
        for name in names:
            match name:
                case "drop":
                    self.link.break_()
                case "half_open":
                    self.link.break_(half_open_s=HALF_OPEN_S)
                case "register_reset":
                    outlet.register.reset()
                case _:
                    continue  # no_stop and late_meter wait for the end
            session.truth.faults.add(name)

    # ---- a session ---------------------------------------------------------------------------------------------------

    async def _authorized(self, token: Token) -> bool:
        """Ask the central system; while it is away everybody may charge."""
        if not self.link.is_ready:
            return True
        answer: asyncio.Future[Payload | None] = asyncio.get_running_loop().create_future()

        def answered(payload: Payload | None) -> None:
            if not answer.done():  # nobody waits for it any more when the run ends
                answer.set_result(payload)

        self.say("Authorize", self.words.authorize(token), on_answer=answered)
        return is_accepted(await answer)

    def _begin(self, outlet: Outlet, guest: Guest) -> Session:
        at_us = self.clock.now_us()
        outlet.settle(at_us)
        session = self.telling.begin(outlet, guest, at_us)
        self.balance(at_us)
        self.telling.note_state(outlet, session)
        return session

    def _end(self, outlet: Outlet, session: Session) -> None:
        if self._zombies and session.stop_reason == "EVDeparted":
            self._zombies -= 1
            session.truth.faults.add("no_stop")
            outlet.hangs = True
            self._note("zombie", outlet)
        self.telling.end(outlet, session)
        self.profiles.end_transaction(outlet.place.where)
        self.say_status(outlet, "Finishing")

    # ---- power -------------------------------------------------------------------------------------------------------

    def balance(self, at_us: int) -> None:
        """Count what was drawn, and share the power anew among the outlets."""
        limits, wanted = [], []
        for outlet in self.outlets:
            outlet.settle(at_us)
            began_us = outlet.session.began_us if outlet.session is not None else at_us
            limits.append(self.profiles.limit_w(outlet.place.where, at_us=at_us, began_us=began_us))
            wanted.append(outlet.wanted_w(limits[-1]))
        cabinet_w = self.hardware.cabinet_w
        granted = wanted if cabinet_w is None else share_w(wanted, cabinet_w)
        for outlet, limit, most_w in zip(self.outlets, limits, granted, strict=True):
            if outlet.guest is None:
                continue
            may_draw = outlet.session is not None and outlet.session.stop_reason is None
            full_w = outlet.most_w if limit is None else min(limit, outlet.most_w)
            outlet.guest.load.limit_w = full_w if may_draw and cabinet_w is None else most_w

    def is_usable(self, outlet: Outlet) -> bool:
        """Whether a vehicle could plug in: the outlet is free, and so is every other one of its EVSE."""
        return outlet.is_free and all(
            other.guest is None for other in self.outlets if other.place.evse == outlet.place.evse
        )

    # ---- words -------------------------------------------------------------------------------------------------------

    def stamp(self, at_us: int) -> str:
        """Return a true time as this charger's clock has it."""
        if self.faults.clock_unset and not self._is_booted:
            return iso(at_us - self._began_us)
        return iso(at_us + self.faults.clock_offset_us)

    def say(self, action: str, payload: Payload, *, on_answer: Callable[[Payload | None], None] | None = None) -> None:
        """Put a call that matters only on this connection; without one, `on_answer` is called with None at once."""
        out = Outgoing(
            action=action, build=lambda: payload, keep=False, on_answer=on_answer, copies=self.faults.copies()
        )
        if not self.link.put_nowait(out) and on_answer is not None:
            on_answer(None)

    def say_status(self, outlet: Outlet, status: str) -> None:
        """Say how an outlet is, when it is different in this version's words."""
        at_us = self.clock.now_us()
        before = self.words.status(outlet.place, outlet.status, at_us)
        outlet.status = status
        after = self.words.status(outlet.place, status, at_us)
        if before != after:
            self.say("StatusNotification", after)

    def after_answer(self, act: Callable[[], None]) -> None:
        """Do something when the answer to the command in hand has left."""
        self._afterwards.append(act)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do something after a while, real seconds; at the end of the run it is dropped."""
        self._timers = {timer for timer in self._timers if not timer.cancelled() and timer.when() > _loop_s()}
        self._timers.add(asyncio.get_running_loop().call_later(delay_s, act))

    def _after_answer(self) -> None:
        acts, self._afterwards = self._afterwards, []
        for act in acts:
            act()

    # ---- starting ----------------------------------------------------------------------------------------------------

    def reset(self, reason: str, *, when_idle: bool = False) -> None:
        """End the sessions, restart; or wait until nobody charges."""
        if when_idle and any(outlet.session is not None for outlet in self.outlets):
            self._reset_when_idle = True
            return
        for outlet in self.outlets:
            if outlet.session is not None:
                outlet.session.stop_reason = outlet.session.stop_reason or reason
                outlet.wake()
        self._boot_reason = "RemoteReset"
        self.later(0.3, self.link.break_)

    def _reset_if_idle(self) -> None:
        if self._reset_when_idle and all(outlet.session is None for outlet in self.outlets):
            self._reset_when_idle = False
            self.reset("SoftReset")

    def boot_payload(self, reason: str) -> Payload:
        """Return a BootNotification."""
        return self.words.boot(self.hardware, self.charger_id[-25:], reason)

    def _boot(self) -> Outgoing | None:
        reason = self._boot_reason
        if reason is None and self.faults.no_boot:
            return None
        payload = self.boot_payload(reason or "Unknown")
        return Outgoing(action="BootNotification", build=lambda: payload, keep=False, on_answer=self._booted)

    def _booted(self, answer: Payload | None) -> None:
        if answer is not None and answer.get("status", "Accepted") == "Accepted":
            self._is_booted, self._boot_reason = True, None
            self.settings.heartbeat(int(answer.get("interval", 0)))

    def _ready(self) -> None:
        at_us = self.clock.now_us()
        if self.version == "1.6":
            self.say("StatusNotification", self.words.status(None, "Available", at_us))
        for outlet in self.outlets:
            self.say("StatusNotification", self.words.status(outlet.place, outlet.status, at_us))


def _loop_s() -> float:
    return asyncio.get_running_loop().time()
