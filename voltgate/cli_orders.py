"""The commands that tell devices what to do and note what is known of them: parse, then call one function."""

from typing import Annotated

import typer

from voltgate.cli_options import (
    ConfigOption,
    DataOption,
    JsonOption,
    LimitOption,
    TenantOption,
    load_settings,
    new_group,
)

command = new_group("Tell devices and chargers what to do.")
charger = new_group("Chargers that are connected.")
asset = new_group("Facts about vehicles, chargers and sites.")


# ---- commands --------------------------------------------------------------------------------------------------------
@command.command("send")
def command_send(
    names: Annotated[
        list[str], typer.Argument(metavar="DEVICE... [ACTION]", help="Chargers, then the OCPP action; or one vehicle.")
    ],
    connector: Annotated[int | None, typer.Option("--connector", min=0, help="Connector of the charger.")] = None,
    evse: Annotated[int | None, typer.Option("--evse", min=0, help="EVSE of the charger, OCPP 2.")] = None,
    id_tag: Annotated[str | None, typer.Option("--id-tag", help="idTag, OCPP 1.6.")] = None,
    id_token: Annotated[str | None, typer.Option("--id-token", help="idToken, OCPP 2.")] = None,
    id_token_type: Annotated[str | None, typer.Option("--id-token-type", help="Else ISO14443.")] = None,
    transaction: Annotated[str | None, typer.Option("--transaction", help="Transaction id.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Soft, Hard, Inoperative, Heartbeat, ...")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Configuration key; OCPP 2: Component.Variable.")] = None,
    value: Annotated[str | None, typer.Option("--value", help="New value of the key.")] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", help="JSON of the request, or @file; for a vehicle the text.")
    ] = None,
    ocpp: Annotated[str | None, typer.Option("--ocpp", help="1.6, 2.0.1 or 2.1, for chargers not connected.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=600, help="Seconds to answer.")] = 30.0,
    wait_until_online: Annotated[
        float | None,
        typer.Option("--wait-until-online", min=0.1, max=604800, help="Seconds; may then be sent more than once."),
    ] = None,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    to_all: Annotated[bool, typer.Option("--all", help="To all chargers; name only the action.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a command to many.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send a command and show the answer. Example: voltgate command send CP-1 Reset --type Soft.

    Exit codes: 0 accepted, 7 rejected, 8 offline, 9 no answer in time, 4 unknown charger, 2 usage.
    """
    from voltgate.command_commands import Order, send_command
    from voltgate.command_payloads import Options

    options = Options(
        connector=connector,
        evse=evse,
        id_tag=id_tag,
        id_token=id_token,
        id_token_type=id_token_type,
        transaction=transaction,
        type=kind,
        key=key,
        value=value,
    )
    order = Order(
        tenant=tenant,
        names=names,
        to_all=to_all,
        options=options,
        payload=payload,
        ocpp=ocpp,
        timeout_s=timeout,
        wait_until_online_s=wait_until_online,
        is_confirmed=yes,
    )
    raise SystemExit(send_command(load_settings(config, data), order, as_json=as_json))


@command.command("ls")
def command_ls(
    device_id: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="'10 min' ago, or a time such as 2026-11-22.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    limit: LimitOption = 50,
    *,
    is_open: Annotated[bool, typer.Option("--open", help="Only those without an outcome.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List commands and what became of them, the newest last; needs no gateway."""
    from voltgate.command_commands import list_commands

    settings = load_settings(config, data)
    list_commands(settings, device_id=device_id, is_open=is_open, since=since, limit=limit, as_json=as_json)


@charger.command("ls")
def charger_ls(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the chargers that are connected now. The gateway must run."""
    from voltgate.command_commands import list_chargers

    list_chargers(load_settings(config, data), tenant=tenant, as_json=as_json)


# ---- assets ----------------------------------------------------------------------------------------------------------
@asset.command("set")
def asset_set(
    device_id: Annotated[str, typer.Argument(help="Name of the vehicle, charger or site.")],
    kind: Annotated[str, typer.Option("--kind", help="vehicle, charger or site.")],
    tenant: TenantOption = "default",
    site: Annotated[str | None, typer.Option("--site", help="Place it belongs to.")] = None,
    latitude: Annotated[float | None, typer.Option("--latitude", min=-90, max=90, help="Degrees north.")] = None,
    longitude: Annotated[float | None, typer.Option("--longitude", min=-180, max=180, help="Degrees east.")] = None,
    rated_power: Annotated[
        float | None, typer.Option("--rated-power-kw", min=0, help="Most it gives or takes.")
    ] = None,
    vin: Annotated[str | None, typer.Option("--vin", help="Vehicle identification number.")] = None,
    id_tokens: Annotated[list[str] | None, typer.Option("--id-token", help="Token it shows; may be repeated.")] = None,
    connectors: Annotated[int | None, typer.Option("--connectors", min=0, help="Connectors of a charger.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="For people.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Note facts; what is not named stays. Example: voltgate asset set CP-1 --kind charger --site depot."""
    from voltgate.asset_commands import set_asset

    facts: dict[str, object] = {
        "kind": kind,
        "site": site,
        "latitude_deg": latitude,
        "longitude_deg": longitude,
        "rated_power_kw": rated_power,
        "vin": vin,
        "id_tokens": ",".join(id_tokens) if id_tokens else None,
        "connectors": connectors,
        "note": note,
    }
    raise SystemExit(set_asset(load_settings(config, data), tenant, device_id, facts, as_json=as_json))


@asset.command("ls")
def asset_ls(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """List what is noted, with the newest value of each fact."""
    from voltgate.asset_commands import list_assets

    list_assets(load_settings(config, data), as_json=as_json)
