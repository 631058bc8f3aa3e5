"""`voltgate demo`: the whole of Voltgate on this computer, with a simulated fleet, and a ledger at the end.

Start: 1 registry and credentials  2 gateway  3 processors  4 simulated vehicles and chargers. Stop: simulators,
gateway, processors, each fully before the next, so that nothing is in flight when the ledger is drawn up.
"""

import json
import signal
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.configuration import open_registry
from gateway.core.credentials import DeviceKind
from gateway.core.errors import RegistryError
from gateway.core.settings import Settings
from gateway.observe.run_files import write_private
from voltgate import compose
from voltgate.asset_commands import say_asset
from voltgate.demo_alerts import ALERTS_FILE, AlertDesk
from voltgate.demo_view import LiveView, session_lines
from voltgate.ledger import read_balance
from voltgate.output import Exit, say
from voltgate.status import read_run_file
from voltgate.supervise import Child, Supervisor, stop_on_signals

if TYPE_CHECKING:
    from simulators.depot import DepotConfig

START_TIMEOUT_S = 30.0
COMMIT_INTERVAL_S = 2.0
"""Shorter than a fleet's: somebody is watching."""
TENANT = "default"
BUS_SHARE = 0.75
GARBAGE_SHARE, DUPLICATE_SHARE, DIRT_SHARE = 0.002, 0.005, 0.02
"""A fleet is never clean; the ledger shows where the dirt goes."""
SESSIONS_SHOWN = 10
FAULT, FAULT_AT_S = "thermal-runaway", 15.0
"""What happens to one of the buses, and how long after the start."""


def run_demo(data: Path, *, duration_s: float | None, vehicles: int, chargers: int, port: int, ocpp_port: int) -> int:
    """Run until `duration_s` or Ctrl-C, print sessions and ledger, and return 0 when that balances."""
    stop, began_s = stop_on_signals(), time.monotonic()
    say("voltgate demo: nothing leaves this computer")
    (data / "run").mkdir(parents=True, exist_ok=True)
    settings = compose.load(
        None,
        data,
        {
            "gateway.mqtt.port": _free_port(port),
            "gateway.ocpp.port": _free_port(ocpp_port),
            "processors.commit_interval_s": COMMIT_INTERVAL_S,
            "processors.kpi_interval_s": 0,  # a demonstration is over before its first hour
            "alerts": str(data / "run" / ALERTS_FILE),
        },
    )
    fleet = fleet_of(vehicles, chargers)
    credentials = register(settings, fleet)
    with (data / "run" / "demo.log").open("ab") as log, AlertDesk(data, say) as desk:
        programs = compose.children(settings)
        supervisor = Supervisor([], say=lambda line: None, log=log)
        try:
            for program in programs:
                supervisor.children.append(program)
                supervisor.start(program)
                _wait_ready(settings, program, stop)
            _publish_facts(settings, fleet)
            fault_s = max(1.0, FAULT_AT_S - (time.monotonic() - began_s))
            supervisor.children.insert(0, _depot(settings, credentials, fleet, fault_s))
            supervisor.start(supervisor.children[0])
            _banner(settings, fleet, duration_s, data, desk)
            _watch(supervisor, settings, stop, duration_s, desk)
        except DemoError as exc:
            say(f"voltgate: {exc}; the programs' own words are in {log.name}")
            return Exit.FAILED
        finally:
            say("stopping: vehicles and chargers, then gateway, then processors")
            codes = supervisor.stop()
    return _close(settings, codes, log.name)


class DemoError(Exception):
    """A program of the demo did not start or did not stay up."""


def fleet_of(vehicles: int, chargers: int) -> "DepotConfig":
    """Return who is simulated: three buses for each car, and their chargers."""
    from simulators.depot import DepotConfig
    from simulators.target import Target

    buses = round(vehicles * BUS_SHARE)
    return DepotConfig(target=Target(), buses=buses, cars=vehicles - buses, chargers=chargers)


def register(settings: Settings, fleet: "DepotConfig") -> Path:
    """Give every device a password of its own, keep them for the next run, and return the file that holds them.

    The file is JSON: device id -> [username, password].
    """
    from simulators.depot import charger_ids
    from simulators.vehicles.fleet import vehicle_ids

    file = settings.data / "run" / "demo-credentials.json"
    known: dict[str, list[str]] = json.loads(file.read_text()) if file.exists() else {}
    kinds = dict.fromkeys(vehicle_ids(fleet.of_vehicles()), DeviceKind.VEHICLE)
    kinds |= dict.fromkeys(charger_ids(fleet), DeviceKind.CHARGER)
    registry = open_registry(settings)
    try:
        for name in kinds.keys() - known.keys():
            added = registry.add(
                tenant=TENANT,
                device_id=name,
                kind=kinds[name],
                security_profile=1 if kinds[name] is DeviceKind.CHARGER else None,
                now_ns=time.time_ns(),
                note="voltgate demo",
            )
            known[name] = [added.username, added.password]
    except RegistryError as exc:
        raise RegistryError(
            f"{exc}; the demo's credentials file {file} is lost: remove {settings.data} to begin anew"
        ) from exc
    finally:
        registry.close()
    write_private(file, json.dumps(known).encode())
    return file


def _publish_facts(settings: Settings, fleet: "DepotConfig") -> None:
    """Tell what an operator knows: where chargers stand, whose token a vehicle shows."""
    from simulators.depot import assets

    for asset in assets(fleet):
        facts = msgspec.structs.asdict(asset)
        device_id = facts.pop("device_id")
        facts["id_tokens"] = ",".join(asset.id_tokens) or None
        say_asset(settings, TENANT, device_id, facts)


def _free_port(wanted: int) -> int:
    """Return `wanted` when nobody listens there, else 0, and say so."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            say(f"port {wanted} is taken on this computer; using a free one")
            return 0
    return wanted


def _wait_ready(settings: Settings, child: Child, stop: threading.Event) -> None:
    """Return when the program has written its run file."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not stop.wait(0.05):
        process = child.process
        assert process is not None, "started just before"
        if process.poll() is not None:
            raise DemoError(f"{child.name} ended with exit code {process.returncode}")
        if (run_file := read_run_file(settings, child.name)) and run_file["pid"] == process.pid:
            return
        if time.monotonic() > deadline_s:
            raise DemoError(f"{child.name} is not ready after {START_TIMEOUT_S:g} s")


def _depot(settings: Settings, credentials: Path, fleet: "DepotConfig", fault_s: float) -> Child:
    endpoints = _endpoints(settings)
    argv = ["-m", "simulators", "depot", "--host", endpoints["mqtt_host"], "--port", str(endpoints["mqtt_port"])]
    argv += ["--url", ocpp_url(endpoints), "--credentials", str(credentials)]
    argv += ["--buses", str(fleet.buses), "--cars", str(fleet.cars), "--chargers", str(fleet.chargers)]
    argv += ["--garbage", str(GARBAGE_SHARE), "--duplicate", str(DUPLICATE_SHARE), "--charger-dirt", str(DIRT_SHARE)]
    argv += ["--fault", f"{FAULT}@{fault_s:.1f}"]
    return Child("simulators", argv)


def ocpp_url(endpoints: Mapping[str, Any]) -> str:
    """Return what a charger's identity is appended to."""
    return f"ws://{endpoints['ocpp_host']}:{endpoints['ocpp_port']}{endpoints['ocpp_path']}"


def _endpoints(settings: Settings) -> dict[str, Any]:
    run_file = read_run_file(settings, "gateway")
    if run_file is None:
        raise DemoError("the gateway is gone")
    return run_file


def _banner(settings: Settings, fleet: "DepotConfig", duration_s: float | None, data: Path, desk: AlertDesk) -> None:
    endpoints = _endpoints(settings)
    end = f"ends by itself after {duration_s:g} s" if duration_s else "Ctrl-C stops"
    vehicles = fleet.buses + fleet.cars
    say(f"  MQTT     {endpoints['mqtt_host']}:{endpoints['mqtt_port']}")
    say(f"  OCPP     {ocpp_url(endpoints)}/{{id}}")
    say(f"  Metrics  http://{endpoints['observe_host']}:{endpoints['observe_port']}/metrics")
    say(f"  Alerts   {desk.url}, a receiver of the demo's own; {FAULT} of one bus {FAULT_AT_S:g} s after the start")
    say(f"  {vehicles} vehicles and {fleet.chargers} chargers at 3 depots are simulated; {end}; data in {data}")


def _watch(
    supervisor: Supervisor, settings: Settings, stop: threading.Event, duration_s: float | None, desk: AlertDesk
) -> None:
    started_at_s = time.monotonic()
    with LiveView(settings, started_at_s=started_at_s) as view:
        desk.say = view.say
        while not stop.wait(0.5):
            if not supervisor.watch():
                raise DemoError("a program of the demo ended for good")
            now_s = time.monotonic()
            view.refresh(now_s)
            if duration_s is not None and now_s - started_at_s >= duration_s:
                return


def _close(settings: Settings, codes: dict[str, int | None], log: str) -> int:
    as_asked = (0, -signal.SIGTERM)  # the latter: asked before it had installed its handlers
    failed = [f"{name} ended with exit code {code}" for name, code in codes.items() if code not in as_asked]
    balance = read_balance(settings)
    print("\n".join([*session_lines(settings.lake_directory, SESSIONS_SHOWN), *balance.lines()]), flush=True)
    for line in failed:
        say(f"voltgate: {line}; its own words are in {log}")
    return Exit.OK if balance.balanced and not balance.in_flight and not failed else Exit.FAILED
