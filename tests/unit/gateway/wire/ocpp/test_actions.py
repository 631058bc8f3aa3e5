"""The table of actions against the schemas that exist."""

from importlib.resources import files

import pytest

from gateway.wire.ocpp.actions import FROM_CENTRAL, FROM_STATION, SENT_BY_STATION
from gateway.wire.ocpp.versions import Version

SCHEMAS = {Version.V16: "v16", Version.V201: "v201", Version.V21: "v21"}


@pytest.mark.parametrize("version", list(Version))
def test_every_schema_has_a_direction_and_every_action_a_schema(version: Version) -> None:
    """Requests and responses of the `ocpp` package are exactly the actions of the table; a SEND has no response."""
    names = {path.name.removesuffix(".json") for path in files("ocpp").joinpath(SCHEMAS[version], "schemas").iterdir()}
    responses = {name.removesuffix("Response") for name in names if name.endswith("Response")}
    requests = {name.removesuffix("Request") for name in names if not name.endswith("Response")}
    calls = FROM_STATION[version] | FROM_CENTRAL[version]
    assert responses == calls
    assert requests == calls | SENT_BY_STATION[version]


@pytest.mark.parametrize("version", list(Version))
def test_only_data_transfer_goes_both_ways(version: Version) -> None:
    """Any other action has one direction."""
    assert {"DataTransfer"} == FROM_STATION[version] & FROM_CENTRAL[version]
