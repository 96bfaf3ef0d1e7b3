"""Checks lines of the log against the reference's schema."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SCHEMA: Final = Path(__file__).parent.parent / "docs" / "reference" / "log-record.schema.json"

_WRITTEN: Final = {
    "level": "ERROR",
    "message": "watchdog.timeout",
    "timestamp": "2026-01-01T00:00:00.000Z",
}


def check(record: dict[str, Any]) -> None:
    """Fail if the schema does not allow a decoded line."""
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - most tests have no record

    if _validator().is_valid(record):
        return
    # Check against the kind of line that the event names; otherwise the error would be about
    # another kind.
    kind = str(record.get("event")).removeprefix("watchdog.").replace("_", "-")
    error = best_match(_validator(kind).iter_errors(record))
    assert error is not None, f"matches more than one kind of line: {record}"
    raise AssertionError(f"{error.json_path}: {error.message}, in {json.dumps(record)}")


def check_built(record: dict[str, Any]) -> None:
    """Check a record that is not a line yet, and has no level, message and time."""
    check({**_WRITTEN, **record})


@functools.cache
def _validator(kind: str | None = None) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - most tests have no record

    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    if kind in schema["$defs"]:
        del schema["oneOf"]
        schema["$ref"] = f"#/$defs/{kind}"
    return Draft202012Validator(schema)
