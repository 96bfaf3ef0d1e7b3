"""Libraries that run Python, or C code that looks at signals."""

from __future__ import annotations

import copy
import csv
import difflib
import gzip
import io
import json
import re
import zipfile
from typing import Any

from . import At, making, plain


def _loop() -> None:
    while True:
        pass


def _rows() -> None:
    writer = csv.writer(io.StringIO())
    while True:
        writer.writerow(range(10))


def _deep() -> None:
    copy.deepcopy([{"key": [n]} for n in range(3_000_000)])


def _alike() -> None:
    difflib.SequenceMatcher(None, "ab" * 20_000, "ba" * 20_000, autojunk=False).ratio()


plain("a loop", _loop)
plain("csv", _rows)
plain("copy.deepcopy", _deep)
plain("difflib", _alike)
plain("re, catastrophic", lambda: re.match(r"(a+)+$", "a" * 40 + "b"))
plain("int, a power", lambda: pow(3, 10**8))
plain("json.dumps, indented", lambda: json.dumps([[n] for n in range(20_000_000)], indent=1))


@making("pandas, apply", library="pandas")
def _(pd: Any, _at: At) -> Any:
    large = pd.DataFrame({"a": range(20_000_000)})

    def ask(n: int) -> int:
        return int(pd.DataFrame({"a": [n]}).apply(lambda row: row["a"], axis=1)[0])

    return ask, lambda: large.apply(lambda row: row["a"] + 1, axis=1)


@making("pandas, to_csv", library="pandas")
def _(pd: Any, _at: At) -> Any:
    large = pd.DataFrame({"a": range(20_000_000), "b": 0.1})
    return lambda n: int(pd.DataFrame({"a": [n]}).to_csv().rpartition(",")[2]), large.to_csv


@making("openpyxl", library="openpyxl")
def _(openpyxl: Any, _at: At) -> Any:
    def ask(n: int) -> int:
        sheet = openpyxl.Workbook().active
        sheet.append([n])
        return int(sheet["A1"].value)

    def hang() -> None:
        sheet = openpyxl.Workbook().active
        for n in range(10_000_000):
            sheet.append([n])

    return ask, hang


@making("Beautiful Soup")
def _(_library: Any, _at: At) -> Any:
    from bs4 import BeautifulSoup

    def ask(n: int) -> int:
        return int(BeautifulSoup(f"<p>{n}</p>", "html.parser").get_text())

    return ask, lambda: BeautifulSoup("<p>a</p>" * 2_000_000, "html.parser")


@making("Jinja", library="jinja2")
def _(jinja2: Any, _at: At) -> Any:
    template = jinja2.Template("{% for i in range(n) %}{{ i }}{% endfor %}")
    return lambda n: len(template.render(n=1)) + n - 1, lambda: template.render(n=10**9)


@making("gzip and zipfile")
def _(_library: Any, _at: At) -> Any:
    def hang() -> None:
        with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as file:
            while True:
                file.writestr("name", b"x" * 100_000)

    return lambda n: int(gzip.decompress(gzip.compress(str(n).encode()))), hang
