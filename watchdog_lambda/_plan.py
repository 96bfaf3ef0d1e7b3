"""The plan for a handler's invocations: settings, hooks, fallback."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ._config import Settings
    from ._hooks import HookRegistry

NO_FALLBACK = object()
"""Stands for a fallback that was not given. None would be a valid answer."""


class Plan:
    """The plan for a handler's invocations: settings, hooks, fallback. Immutable."""

    __slots__ = ("_merged", "fallback", "given", "registries", "settings", "takes_event")

    def __init__(
        self,
        settings: Settings,
        registries: tuple[HookRegistry, ...],
        fallback: object,
        given: Mapping[str, Any],
        *,
        takes_event: bool = False,
    ) -> None:
        self.settings = settings
        self.registries = registries
        self.fallback = fallback
        self.takes_event = takes_event  # whether a callable fallback takes details and event
        self.given = given  # the options that were given in code
        self._merged: dict[Plan, Plan] = {}

    def answer(self, details: Any, event: object) -> Any:
        """Call the fallback. Thread: the handler's, or one of the last resort's."""
        fallback: Any = self.fallback
        return fallback(details, event) if self.takes_event else fallback(details)

    def may_interrupt(self, event: object) -> bool:
        """Return whether this event's invocation may be interrupted. Thread: any."""
        settings = self.settings
        return settings.interrupt != "none" and (
            "interrupt" in settings.given or not is_durable(event)
        )

    @property
    def is_bare(self) -> bool:
        """Whether it would add nothing to an outer plan."""
        return not self.given and self.fallback is NO_FALLBACK and len(self.registries) == 1

    def with_inner(self, inner: Plan) -> Plan:
        """Return this plan with the options, fallback and hooks of an inner watched handler."""
        merged = self._merged.get(inner)
        if merged is None:
            answering = self if inner.fallback is NO_FALLBACK else inner
            merged = self._merged[inner] = Plan(
                self.settings.replaced(inner.given),
                tuple(dict.fromkeys((*inner.registries, *self.registries))),
                answering.fallback,
                {**self.given, **inner.given},
                takes_event=answering.takes_event,
            )
        return merged


_DURABLE = {"DurableExecutionArn", "CheckpointToken"}


def is_durable(event: object) -> bool:
    """Return whether the event invokes a durable function, where errors are final.

    A timeout, in contrast, is retried there. We look at the event, as Lambda's SDK for durable
    execution does (3.0.0). The check runs no code of the event's class.
    """
    return issubclass(type(event), dict) and dict[object, object].keys(event) >= _DURABLE  # type: ignore[arg-type]
