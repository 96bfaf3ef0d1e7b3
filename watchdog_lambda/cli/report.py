"""The results of ``check``: facts, and findings about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from watchdog_lambda._config import Settings
    from watchdog_lambda._engine.clock import Timeline


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, with the value in force for the handler."""

    name: str
    value: object
    source: str
    """`default`, `environment`, `--env`, `--env-file`, or `code` for options of a @watch."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A remark to the user: an error prevents running, a warning should be looked into."""

    level: Literal["error", "warning", "note"]
    text: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The handler that was found."""

    name: str
    file: str
    line: int
    is_async: bool
    is_watched: bool


@dataclass(slots=True)
class Report:
    """Everything that the check has found."""

    timeout: float
    """Seconds that an invocation has: --timeout, or the setting TIMEOUT if that is shorter."""
    settings: list[Setting] = field(default_factory=list["Setting"])
    findings: list[Finding] = field(default_factory=list["Finding"])
    handler: Resolved | None = None
    in_force: Settings | None = None
    timeline: Timeline | None = None
    stages: dict[float | None, list[str]] = field(default_factory=dict[float | None, list[str]])
    """The names of the hooks in each stage, by its `before`: the seconds before the hard deadline
    at which it begins. None is the stage at the grace period."""

    def add(self, level: Literal["error", "warning", "note"], text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, text))

    def has(self, level: str) -> bool:
        """Return whether there is a finding of this level."""
        return any(finding.level == level for finding in self.findings)
