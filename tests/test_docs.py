"""The documents say what the code does."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support import Context
from watchdog_lambda import _api
from watchdog_lambda._config import DEFAULTS, PARSERS

ROOT = Path(__file__).parent.parent


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    """A table row each, in the order of the contract, and no row without a setting."""
    rows = dict(
        re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", text("docs/reference/settings.md"), re.MULTILINE)
    )

    assert {name.lower() for name in rows} == set(PARSERS)
    for name, default in DEFAULTS.items():
        if isinstance(default, str | float) and not isinstance(default, bool):
            assert rows[name.upper()] == f"`{default}`"


def test_every_key_of_the_record_is_in_the_reference(capfd: pytest.CaptureFixture[str]) -> None:
    """What a timeout writes and what the page lists are the same keys."""
    import json  # noqa: PLC0415

    from watchdog_lambda import LambdaTimeout, watch  # noqa: PLC0415

    with pytest.raises(LambdaTimeout):
        watch(grace_period=0.02)(lambda _e, _c: threading.Event().wait(5.0))({}, Context(0.1))
    record = json.loads(capfd.readouterr().out)
    columns = re.findall(r"^\| (`.*?) \|", text("docs/reference/log-record.md"), re.MULTILINE)
    listed = re.findall(r"`(\w+)`", "".join(columns))

    assert set(listed) == {*record, "interrupts_left_out", "last_resort", "obstacle"}


def test_the_readmes_code_runs() -> None:
    """The Python snippet, executed and called."""
    [snippet] = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    namespace: dict[str, Any] = {}

    try:
        exec(compile(snippet, "README.md", "exec"), namespace)  # noqa: S102
        answer = namespace["handler"]({"order": 7}, Context(5.0))
    finally:
        for hook in _api._hooks.snapshot():
            _api._hooks.remove(hook.key)

    assert answer == {"statusCode": 200}


@pytest.mark.parametrize(
    "page", [p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md")]
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    """Relative links only; the pages and files they name exist."""
    for document in (page, "README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(document)):
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"
