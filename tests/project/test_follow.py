"""Following a page's steps finds the page's errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools.documents import Block, blocks, commands, is_alike
from tools.follow import DepartureError, Reader, is_step


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    (tmp_path / "work").mkdir()
    return Reader(tmp_path / "work", {"PATH": path, "LANG": "C.UTF-8"}, may_install=False)


def page(tmp_path: Path, text: str) -> list[Block]:
    """Return the blocks of a page with this text."""
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return blocks(path, "page.md")


def test_files_and_commands_run_in_page_order(tmp_path: Path, reader: Reader) -> None:
    """Files, commands and pieces are done in order.

    A file that is shown again replaces the first unless it is continued, and the shell keeps
    its state.
    """
    text = """
# Begin

```python
# app.py
print("first")
```

```console
$ mkdir below
$ export NAME=Ada
$ python app.py
first
```

```python
# app.py
import os
```

```python
# app.py, continued
print("hello", os.environ["NAME"], os.path.basename(os.getcwd()))
```

```console
$ cd below
$ python ../app.py
```

It says:

```
hello Ada below
```

```python
assert 1 + 1 == 2
```
"""
    assert reader.follow(page(tmp_path, text)) == 6


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```console\n$ echo two\nthree\n```", "`echo two` shows"),
        ("```console\n$ false\n```", "`false` ends with 1"),
        ("```python\nassert 1 == 2\n```", "AssertionError"),
        ("```python\nimport warnings\nwarnings.warn('no')\n```", "UserWarning"),
        ("```python\n# app.py, continued\n```", "does not begin anywhere"),
        ("```console\n$ echo two\n```\n\n```\nthree\n```", "`echo two` shows"),
    ],
)
def test_departures_from_the_page_are_reported(
    tmp_path: Path, reader: Reader, text: str, complaint: str
) -> None:
    """A departure from the page is reported with its place on the page."""
    with pytest.raises(DepartureError, match=r"page\.md:1") as departure:
        reader.follow(page(tmp_path, text))

    assert complaint in str(departure.value)


def test_skip_reason_applies_to_one_block(tmp_path: Path) -> None:
    """A reason not to run applies to one block, and is in the text right before it."""
    text = """
*Not run by the tests: it needs an account.*

```console
$ deploy
```

```console
$ undeploy
```
"""
    assert [block.unrun for block in page(tmp_path, text)] == ["it needs an account.", ""]


def test_command_may_span_several_lines(tmp_path: Path) -> None:
    """A command may have several lines, as in the shell. The lines below it are its output."""
    [block] = page(tmp_path, "```console\n$ echo a \\\n    b\na b\n$ true\n```")

    assert [(c.text, c.output) for c in commands(block)] == [
        ("echo a \\\n    b", "a b"),
        ("true", ""),
    ]


def test_checkout_commands_are_not_steps(tmp_path: Path) -> None:
    """Commands of this checkout are no steps.

    They are for developers; a reader who has the wheel has no dev.py.
    """
    own, mixed = page(
        tmp_path,
        "```console\n$ python3 dev.py test\n```\n\n```console\n$ python3 dev.py layer\n$ ls\n```",
    )

    assert (is_step(own), is_step(mixed)) == (False, True)


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        ("after 2.25 s", "after 2.31 s"),
        ("running  =======   2.25 s", "running  ========  2.31 s"),
        ("left     .........   0.75 s", "left    .......   0.69 s"),
        ("one\nsettle    s   3 ms\ntwo", "one\ntwo"),
        (
            "built-in Runtime API\n\nanswered after 1.20 s; new process, started in 0.09 s",
            "AWS's emulator, /bin/rie\n\ninit   ii   counts\nanswered after 1.31 s",
        ),
        ("pid 13441, 12 ms", "pid 1300, 250 ms"),
        ('{"pid": 13441}', '{"pid": 575}'),
        ('{"pid": 13441}', '{"pid": 7}'),
        ('File ".../app.py"', 'File "/somewhere/else/app.py"'),
        ("one\n...\nfour", "one\ntwo\nthree\nfour"),
        ("id 9f84880f-4d85-489b-8863-4cf3cc5636ec", "id 2856a491-d01b-4db3-b465-6c215f21bdb2"),
    ],
)
def test_varying_figures_are_accepted(expected: str, shown: str) -> None:
    """Figures that differ between any two runs may differ from the page's."""
    assert is_alike(expected, shown)


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        ("2 passed in 0.77s", "1 failed, 1 passed in 0.77s"),
        ("3 passed in 0.77s", "2 passed in 0.77s"),
        ('"statusCode": 504', '"statusCode": 200'),
        ("outcome: caught", "outcome: killed"),
        ("one\n...\nfour", "one\ntwo"),
        ("interrupt   !   2.25 s", ""),
        ("cleanup   ##   0.10 s", ""),
    ],
)
def test_differing_text_is_rejected(expected: str, shown: str) -> None:
    """Words, counts, statuses and the rows of a timeline may not differ from the page's."""
    assert not is_alike(expected, shown)
