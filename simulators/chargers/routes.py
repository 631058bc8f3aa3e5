"""The `ocpp` package's route map of a charger: its handlers, refusals for the rest."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ocpp.charge_point import camel_to_snake_case
from ocpp.exceptions import NotImplementedError as NotImplementedByStation

from simulators.chargers.hardware import Version
from simulators.chargers.refusals import commands, refusal

Handler = Callable[[dict[str, Any]], dict[str, Any]]
"""Of a command: payload -> answer, both in the snake case of the `ocpp` package."""


class Routes(dict[str, dict[str, Any]]):
    """The package's route map for every command of a version; what is no command is not implemented."""

    def __init__(
        self,
        version: Version,
        module: ModuleType,
        handlers: Mapping[str, Handler],
        after_answer: Callable[[], None],
        count: Callable[[str], None],
    ) -> None:
        super().__init__()
        for action in commands(module):
            on = _on(action, getattr(module.call_result, action), handlers.get(action), version, count)
            self[action] = {"_on_action": on, "_after_action": _after(after_answer)}

    def __missing__(self, action: str) -> dict[str, Any]:
        def refuse(**_payload: Any) -> None:
            raise NotImplementedByStation(details={"cause": f"{action} is nothing a station does"})

        return {"_on_action": refuse, "_skip_schema_validation": True}


def _on(
    action: str,
    result: Any,
    handler: Handler | None,
    version: Version,
    count: Callable[[str], None],
) -> Callable[..., Any]:
    def on(**payload: Any) -> Any:
        count(action)
        if handler is not None:
            return result(**handler(payload))
        return result(**camel_to_snake_case(refusal(version, action)))

    return on


def _after(after_answer: Callable[[], None]) -> Callable[..., None]:
    def after(**_payload: Any) -> None:
        after_answer()

    return after
