"""The memory's limit, read from the control groups' files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from watchdog_lambda._lambda import memory
from watchdog_lambda._lambda.memory import limit_mb

if TYPE_CHECKING:
    from collections.abc import Callable

Files = dict[str, bytes]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """Return the files that there are, by path: none at first."""
    there: Files = {}

    def opened(path: str, mode: str) -> io.BytesIO:
        assert mode == "rb"
        try:
            return io.BytesIO(there[path])
        except KeyError:
            raise FileNotFoundError(path) from None

    opens: Callable[[str, str], io.BytesIO] = opened
    monkeypatch.setattr(memory, "open", opens, raising=False)
    return there


def test_no_file_is_no_limit(files: Files) -> None:
    assert (limit_mb({}), files) == (None, {})


def test_root_groups_of_both_versions_are_read(files: Files) -> None:
    files["/sys/fs/cgroup/memory/memory.limit_in_bytes"] = b"268435456\n"
    assert limit_mb({}) == 256

    files["/sys/fs/cgroup/memory.max"] = b"134217728\n"
    assert limit_mb({}) == 128


@pytest.mark.parametrize(
    ("groups", "limit_file"),
    [
        (b"0::/own\n", "/sys/fs/cgroup/own/memory.max"),
        (b"0::/a:b:c\n", "/sys/fs/cgroup/a:b:c/memory.max"),
        (b"5:cpu:/x\n4:hugetlb,memory:/own\n", "/sys/fs/cgroup/memory/own/memory.limit_in_bytes"),
        (b"broken\n0::/own\n", "/sys/fs/cgroup/own/memory.max"),
    ],
)
def test_own_group_comes_before_the_root(files: Files, groups: bytes, limit_file: str) -> None:
    """The limit of the process's own group counts, in both versions of control groups."""
    files["/sys/fs/cgroup/memory.max"] = b"max\n"
    files["/sys/fs/cgroup/memory/memory.limit_in_bytes"] = b"268435456\n"
    files["/proc/self/cgroup"] = groups
    files[limit_file] = b"134217728\n"

    assert limit_mb({}) == 128


def test_group_without_the_memory_controller_does_not_count(files: Files) -> None:
    files["/proc/self/cgroup"] = b"5:cpu,memory2:/own\n"
    files["/sys/fs/cgroup/memory/own/memory.limit_in_bytes"] = b"134217728\n"
    files["/sys/fs/cgroup/own/memory.max"] = b"134217728\n"

    assert limit_mb({}) is None


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (b"0", None),
        (b"max", None),
        (b"", None),
        (b"%d" % ((1 << 60) - 1), ((1 << 60) - 1) >> 20),
        (b"%d" % (1 << 60), None),
    ],
)
def test_no_limit_is_recognised(files: Files, value: bytes, limit: int | None) -> None:
    """Zero, a word, and a number beyond any machine's memory are no limits."""
    files["/sys/fs/cgroup/memory.max"] = value

    assert limit_mb({}) == limit
