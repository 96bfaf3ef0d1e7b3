"""A page whose figures are made by code: each generated part between two markers in its prose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def fill_in(page: str, parts: Mapping[str, Iterable[str]], *, command: str) -> str:
    """The page with its generated parts made anew; the prose around them stays."""
    for name, lines in parts.items():
        begin, end = f"<!-- {name}: made by dev.py {command} -->", f"<!-- end of {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page needs one {begin!r}, and one {end!r} behind it")
        before, rest = page.split(begin)
        behind = rest.split(end)[1]
        page = before + "\n".join([begin, *lines, end]) + behind
    return page
