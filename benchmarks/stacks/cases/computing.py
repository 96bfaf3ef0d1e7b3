"""C code that computes and checks for nothing: only a supervisor reaches it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import zlib
from typing import Any

from . import At, making, plain
from .queries import SLOW_SQLITE


def _scrypt() -> bytes:
    return hashlib.scrypt(b"", salt=b"", n=2**17, r=8, p=200, maxmem=2**30)


plain("hashlib.scrypt", _scrypt)
plain("hashlib.pbkdf2_hmac", lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9))
plain("zlib", lambda: zlib.compress(os.urandom(1_000_000) * 1_000, 9))
plain("sum, with the GIL held", lambda: sum(range(10**11)))
plain("sorted, with the GIL held", lambda: sorted(map(hash, map(str, range(20_000_000)))))
plain("json.loads, of one document", lambda: json.loads(f"[{'1.5,' * 150_000_000}0]"))


@making("sqlite3")
def _(_library: Any, _at: At) -> Any:
    connection = sqlite3.connect(":memory:")

    def query(statement: str) -> int:
        return int(connection.execute(statement).fetchone()[0])

    return lambda n: query(f"select {n}"), lambda: query(SLOW_SQLITE)


@making("numpy", library="numpy")
def _(np: Any, _at: At) -> Any:
    large = np.random.default_rng(1).random((5000, 5000))
    return lambda n: int(np.array([n]).sum()), lambda: np.linalg.svd(large)


@making("pandas, a rolling median")
def _(_library: Any, _at: At) -> Any:
    import numpy as np
    import pandas as pd

    large = pd.Series(np.random.default_rng(1).random(20_000_000))
    return lambda n: int(pd.Series([n]).sum()), lambda: large.rolling(5001).median()


@making("pandas, read_csv", library="pandas")
def _(pd: Any, _at: At) -> Any:
    text = b"a,b\n" + b"1.5,2.5\n" * 60_000_000
    return lambda n: int(pd.read_csv(io.BytesIO(b"a\n%d" % n))["a"][0]), lambda: pd.read_csv(
        io.BytesIO(text)
    )


@making("pyarrow")
def _(_library: Any, _at: At) -> Any:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    large = pa.array(np.random.default_rng(1).random(60_000_000))
    return lambda n: int(pc.sum(pa.array([n])).as_py()), lambda: pc.sort_indices(large)


@making("polars", library="polars")
def _(pl: Any, _at: At) -> Any:
    large = pl.select(pl.int_range(0, 20_000_000).hash().cast(pl.Float64).alias("a"))["a"]
    return lambda n: int(pl.Series([n]).sum()), lambda: large.rolling_median(5001)


@making("lxml")
def _(_library: Any, _at: At) -> Any:
    from lxml import etree

    large = etree.fromstring(f"<a>{'<b/>' * 200_000}</a>")
    slow = "count(//b[count(preceding-sibling::b) > 1])"
    return lambda n: int(etree.fromstring(f"<a>{n}</a>").text), lambda: large.xpath(slow)


@making("Pillow")
def _(_library: Any, _at: At) -> Any:
    from PIL import Image, ImageFilter

    large = Image.effect_noise((3000, 3000), 100)
    return lambda n: Image.new("L", (n, 1)).width, lambda: large.filter(
        ImageFilter.MedianFilter(61)
    )
