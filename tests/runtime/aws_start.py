"""Reproduces the way AWS's Python images start a function, in a folder instead of an image.

The scripts are those of ``tests/image/aws_base``, with their paths replaced by the folder's. The
interpreter is the bare one, in which nothing is installed: the function can import only from the
task root, from ``opt``, and the runtime client next to ``bootstrap.py``.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.runtime.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCES: Final = Path(__file__).parents[1] / "image" / "aws_base"
_PLACES: Final = {
    "lambda-entrypoint.sh": "lambda-entrypoint.sh",
    "runtime-bootstrap.sh": "var/runtime/bootstrap",
    "runtime_bootstrap.py": "var/runtime/bootstrap.py",
}
_CLIENT: Final = ("awslambdaric", "simplejson", "snapshot-restore-py")


class AwsStart:
    """A folder with the layout of AWS's image.

    It has ``opt``, ``task`` and the scripts that start the runtime.
    """

    def __init__(self, folder: Path) -> None:
        self.opt = folder / "opt"
        self.task = folder / "task"
        self.runtime = folder / "var" / "runtime"
        for each in (self.opt, self.task, self.runtime):
            each.mkdir(parents=True)
        self.python = str(Path(sys._base_executable))  # type: ignore[attr-defined]
        for source, place in _PLACES.items():
            text = (_SOURCES / source).read_text(encoding="utf-8")
            text = text.replace("/var/lang/bin/python3", self.python)
            for path in ("/var/runtime", "/opt"):
                text = text.replace(path, f"{folder}{path}")
            script = folder / place
            script.write_text(text, encoding="utf-8")
            script.chmod(0o755)
        self._entrypoint = folder / "lambda-entrypoint.sh"
        for name in _CLIENT:
            for top in {file.parts[0] for file in importlib.metadata.files(name) or ()}:
                found = Path(str(importlib.metadata.distribution(name).locate_file(top)))
                if found.exists() and top != "..":
                    (self.runtime / top).symlink_to(found)

    def function(
        self,
        handler: str = "app.handler",
        *,
        command: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        timeout: int = 2,
        warm_up: object = None,
    ) -> Emulator:
        """Make an emulator that starts the function; `command` replaces the image's entrypoint."""
        return Emulator(
            command or (str(self._entrypoint), handler),
            cwd=self.task,
            timeout=timeout,
            environment={
                "PATH": "/usr/bin:/bin",
                "LANG": "en_US.UTF-8",
                "TZ": ":/etc/localtime",
                "LAMBDA_TASK_ROOT": str(self.task),
                "LAMBDA_RUNTIME_DIR": str(self.runtime),
                **(environment or {}),
            },
            warm_up=warm_up,
        )
