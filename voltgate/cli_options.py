"""Options that many commands share, and what they stand for. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any

import typer

ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; conf.d/*.toml beside it is read too.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Directory of everything that survives a restart.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output, one document per line.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Whose device it is.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="Most rows shown.")]


def load_settings(config: Path | None, data: Path | None, **overrides: object) -> Any:
    """Return the settings of a command; `overrides` by dotted name. Raises: SystemExit: They are wrong."""
    from voltgate.compose import load

    return load(config, data, overrides)


def new_group(help_text: str) -> typer.Typer:
    """Return a group of commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
