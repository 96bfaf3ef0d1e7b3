"""What the deployment counts is what the package writes; `dev.py template` checks the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from watchdog_lambda._config import SETTINGS
from watchdog_lambda._report.record import EVENT
from watchdog_lambda._setting import PREFIX

ROOT = Path(__file__).parents[2]
PAGES = ("deploy/template.yaml", "docs/how-to/deploy.md", "docs/how-to/other-wrappers.md")


@pytest.mark.parametrize("page", PAGES[:2])
def test_metric_filters_look_for_the_record(page: str) -> None:
    """The pattern names the record's event, in the template and in what the page shows."""
    text = (ROOT / page).read_text(encoding="utf-8")

    events = set(re.findall(r"\$\.event = \\?\"([\w.]+)\\?\"", text))

    assert events == {EVENT}


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_settings(page: str) -> None:
    """A name with the prefix that is none would be warned of, and have no effect."""
    text = (ROOT / page).read_text(encoding="utf-8")

    names = set(re.findall(rf"\b{PREFIX}([A-Z_]+)", text))

    assert names
    assert {name.lower() for name in names} <= set(SETTINGS)


def test_the_template_builds_the_image_of_this_project() -> None:
    """Its paths exist, as SAM resolves them."""
    text = (ROOT / PAGES[0]).read_text(encoding="utf-8")
    settings = dict(re.findall(r"^ +(DockerContext|Dockerfile|APP): (.+)$", text, re.MULTILINE))

    context = (ROOT / "deploy" / settings["DockerContext"]).resolve()
    assert context == ROOT
    assert (context / settings["Dockerfile"]).is_file()
    assert (context / settings["APP"] / "app.py").is_file()
