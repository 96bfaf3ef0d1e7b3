"""The registry of hooks, and their stages."""

from __future__ import annotations

import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Call = Callable[[Any], object]
    """Called with TimeoutDetails, or with None for a sandbox_shutdown_hook."""

_order = itertools.count()  # shared: "last registered first" applies across all registries


class Hook:
    """One registered hook."""

    __slots__ = ("before", "call", "key", "name")

    def __init__(self, key: int, name: str, call: Call, before: float | None) -> None:
        self.key = key
        self.name = name
        self.call = call
        self.before = (
            before  # seconds before the hard deadline; None: at the start of the grace period
        )


staged: dict[int, Hook] = {}
"""The registered hooks with a stage of their own. Usually empty, which the hot path checks."""


class HookRegistry:
    """Hooks in order of registration. Any thread may add and remove; the watchdog takes a copy."""

    __slots__ = ("_hooks",)

    def __init__(self) -> None:
        # A dict, because its single stores, its deletions and list() of it are atomic. With a lock,
        # a handler could be interrupted while it holds the lock that the watchdog needs.
        self._hooks: dict[int, Hook] = {}

    def add(self, name: str, call: Call, before: float | None = None) -> int:
        """Register a hook. Return the key to remove it with."""
        key = next(_order)
        hook = self._hooks[key] = Hook(key, name, call, before)
        if before is not None:
            staged[key] = hook
        return key

    def remove(self, key: int) -> None:
        """Remove a hook, if it is still registered."""
        self._hooks.pop(key, None)
        staged.pop(key, None)

    def snapshot(self) -> list[Hook]:
        return list(self._hooks.values())


shared = HookRegistry()
"""The hooks that all watched handlers share."""


def stages(registries: Iterable[HookRegistry]) -> dict[float | None, list[Hook]]:
    """Group the hooks by ``before``. In each stage the last registered comes first."""
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
    """Return ``module.function``, or as much of it as is known."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return f"{module}.{name}" if module else str(name)
