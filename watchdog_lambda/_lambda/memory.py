"""The memory limit of this sandbox, and the peak memory of a process that has ended."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

MEBIBYTE: Final = 1 << 20

_LIMITS: Final = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def limit_mb(environ: Mapping[str, str]) -> int | None:
    """Return the function's memory in MB, as Lambda gives it, else the control group's limit.

    None if neither is known, or there is no limit.
    """
    told = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if told.isascii() and told.isdecimal() and int(told):
        return int(told)
    for path in (*_own_groups(), *_LIMITS):
        try:
            with open(path, "rb") as file:
                value = file.read().strip()
        except OSError:
            continue
        # Without a limit, version 1 has a number beyond any machine's memory.
        if value.isdigit() and 0 < int(value) < 1 << 60:
            return int(value) // MEBIBYTE
    return None


def peak_mb(maximum_resident_kb: int, limit: int | None) -> int:
    """Return a process's peak memory in MB, from ``wait4()``'s value in KB.

    It is at most the limit: the limit counts pages that several processes share only once, while
    ``wait4()`` counts them for each process.
    """
    peak = maximum_resident_kb >> 10
    return peak if limit is None else min(peak, limit)


def _own_groups() -> list[str]:
    """Return the limit files of this process's control groups, below the visible root."""
    try:
        with open("/proc/self/cgroup", "rb") as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found: list[str] = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "", "")[:3]
        if not controllers:
            found.append(f"/sys/fs/cgroup{path}/memory.max")
        elif "memory" in controllers.split(","):
            found.append(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")
    return found
