"""The registry of hooks, and the stages that they are in."""

from __future__ import annotations

import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Call = Callable[[Any], object]
    """Of TimeoutDetails; of None for a sandbox's hook, which has none."""

_order = itertools.count()  # one for all registries: last registered first holds across them


class Hook:
    """One registered hook."""

    __slots__ = ("before", "call", "key", "name")

    def __init__(self, key: int, name: str, call: Call, before: float | None) -> None:
        self.key = key
        self.name = name
        self.call = call
        self.before = (
            before  # seconds ahead of the hard deadline; None: when the grace period begins
        )


staged: dict[int, Hook] = {}
"""The registered hooks that have a stage of their own; empty for most, which the hot path asks."""


class HookRegistry:
    """Hooks, by order of registration. Any thread may add and remove; the watchdog copies."""

    __slots__ = ("_hooks",)

    def __init__(self) -> None:
        # A dict, because single stores, deletions and list() of it are atomic: no lock that a
        # handler could be interrupted in while the watchdog wants it.
        self._hooks: dict[int, Hook] = {}

    def add(self, name: str, call: Call, before: float | None = None) -> int:
        """Register, and return the key to remove it with."""
        key = next(_order)
        hook = self._hooks[key] = Hook(key, name, call, before)
        if before is not None:
            staged[key] = hook
        return key

    def remove(self, key: int) -> None:
        """Forget a hook; nothing, if it is gone already."""
        self._hooks.pop(key, None)
        staged.pop(key, None)

    def snapshot(self) -> list[Hook]:
        return list(self._hooks.values())


shared = HookRegistry()
"""The hooks that every watched handler shares."""


def stages(registries: Iterable[HookRegistry]) -> dict[float | None, list[Hook]]:
    """The hooks by ``before``, each stage with the last registered first."""
    hooks = sorted(
        (hook for registry in registries for hook in registry.snapshot()),
        key=lambda hook: hook.key,
        reverse=True,
    )
    staged: dict[float | None, list[Hook]] = {}
    for hook in hooks:
        staged.setdefault(hook.before, []).append(hook)
    return staged


def hook_name(function: object) -> str:
    """``module.function``, as well as it can be told."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return f"{module}.{name}" if module else str(name)
