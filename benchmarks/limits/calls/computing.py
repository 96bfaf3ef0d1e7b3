"""One call into CPython's own C code that takes long: it holds the GIL throughout."""

from __future__ import annotations

import collections
import ctypes
import decimal
import itertools
import json
import pickle
import random
import re
import sys
from typing import TYPE_CHECKING

from benchmarks.limits.registry import Group

from .threads import LONG

if TYPE_CHECKING:
    from benchmarks.limits.registry import Block

SLOW_FLOAT = 2.2250738585072011e-308
"""One whose decimal digits take long, so that what holds many needs not be huge."""

group = Group("C code that holds the GIL")


@group.call(quick=True)
def regex() -> Block:
    """A catastrophic `re.match()`."""
    pattern, text = re.compile(r"(a+)+$"), "a" * 60 + "b"
    return lambda: pattern.match(text)


@group.call()
def power() -> Block:
    """`pow()` of big integers."""
    return lambda: 3**500_000_000


@group.call()
def int_to_str() -> Block:
    """`str()` of a huge integer."""
    sys.set_int_max_str_digits(0)
    huge = 1 << 200_000_000
    return lambda: str(huge)


@group.call()
def str_to_int() -> Block:
    """`int()` of a huge string."""
    sys.set_int_max_str_digits(0)
    huge = "9" * 50_000_000
    return lambda: int(huge)


@group.call()
def decimal_exp() -> Block:
    """`Decimal.exp()` with a million digits."""
    context = decimal.Context(prec=1_000_000)
    return lambda: decimal.Decimal(2).exp(context)


@group.call()
def represent() -> Block:
    """`repr()` of a huge list."""
    huge = [SLOW_FLOAT] * 20_000_000
    return lambda: repr(huge)


@group.call()
def json_dumps() -> Block:
    """`json.dumps()` of many records."""
    huge = [{"id": 1, "values": [SLOW_FLOAT] * 10}] * 2_000_000
    return lambda: json.dumps(huge)


@group.call()
def json_dumps_floats() -> Block:
    """`json.dumps()` of a huge list of floats."""
    # The encoder looks at signals when it writes an integer, and not when it writes a float.
    huge = [SLOW_FLOAT] * 20_000_000
    return lambda: json.dumps(huge)


@group.call()
def json_loads() -> Block:
    """`json.loads()` of something huge."""
    text = "{" + ",".join([f'"key":{SLOW_FLOAT!r}'] * 10_000_000) + "}"
    return lambda: json.loads(text)


@group.call()
def pickle_dumps() -> Block:
    """`pickle.dumps()` of something huge."""
    huge = [SLOW_FLOAT] * 20_000_000
    return lambda: pickle.dumps(huge, protocol=0)


@group.call()
def sort() -> Block:
    """`sorted()` of a huge list."""
    huge = [random.random() for _ in range(20_000_000)]
    return lambda: sorted(huge)


@group.call(quick=True)
def sum_of_range() -> Block:
    """`sum(range(...))`."""
    return lambda: sum(range(10**12))


@group.call()
def search_in_iterator() -> Block:
    """`in` an iterator without end."""
    return lambda: -1 in itertools.count()


@group.call()
def exhaust_iterator() -> Block:
    """`deque(itertools.repeat(...), maxlen=0)`."""
    return lambda: collections.deque(itertools.repeat(None, 10**12), maxlen=0)


@group.call()
def foreign_with_gil() -> Block:
    """`usleep()` through `ctypes.PyDLL`."""
    libc = ctypes.PyDLL(None)
    return lambda: libc.usleep(int(LONG * 1e6))
