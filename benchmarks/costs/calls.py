"""The time that a call takes, by the way its handler is watched.

``python -m benchmarks.costs.calls NAME`` is one way in a process of its own: it times batches of
calls, whenever it is told to.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any, Final

from benchmarks.child import Channel, end_with_parent
from benchmarks.children import Child

from .contenders import CONTENDERS, NO_HOME, OURS, RECIPE, context, home_of, noop
from .report import SKIPPED, Goal, Part, Ratio, Table, digits, quantile

if TYPE_CHECKING:
    from .contenders import Handler
    from .report import Found, Tell

_BATCH_NS: Final = 700_000
"""Long compared with the clock's resolution; two are short compared with a scheduler's turn."""

GOAL_NS: Final = 600
"""Above bare; what the plot shows as the goal."""
_MOST_OF_RECIPE: Final = 0.25
_SLOW_NS: Final = 20_000

_SLOW_MACHINE: Final = (
    "It is one page of Python code, whose time depends on the machine: on a processor half as "
    "fast, or shared with busy neighbours, it takes twice as long. To reduce it, a part would have "
    "to be written in C."
)
_CHEAP_SYSTEM_CALLS: Final = (
    "The recipe makes four system calls, which are cheaper on this machine; our Python code is not."
)
_FIXED_LIMIT: Final = (
    "It does less: it does not read the context (the row *context read* shows what that costs), so "
    "it ends a message a fixed time after its start and not before a deadline, and its thread "
    "wakes every second. Only without reading the deadline could we be below it for certain."
)


def _measure(*, quick: bool, tell: Tell) -> Found:
    """All of them in turns, A B C A B C, so that they see the same machine."""
    rounds = 80 if quick else 400
    skipped: list[str] = []
    with contextlib.ExitStack() as processes:
        tell("starting one process for each way")
        running = _start(processes, skipped, with_vendors=not quick)
        times: dict[str, list[dict[str, float]]] = {name: [] for name in running}
        for turn in range(rounds):
            if turn % 50 == 0:
                tell(f"round {turn} of {rounds}, {len(running)} ways")
            for name, child in running.items():
                child.say("batch")
                times[name].append(child.hear())
        rows = {}
        for name, child in running.items():
            tell(f"{name}: calls one by one")
            rows[name] = _row(times[name])
            count = 20_000 // (10 if quick else 1) // (10 if rows[name]["median"] > _SLOW_NS else 1)
            child.say(f"singles {count}")
            rows[name]["single"] = child.hear()
    return {"rounds": rounds, "ways": rows, SKIPPED: skipped}


def _start(
    processes: contextlib.ExitStack, skipped: list[str], *, with_vendors: bool
) -> dict[str, Child]:
    """A process for each way that is installed; all load at the same time."""
    begun: dict[str, Child] = {}
    for contender in CONTENDERS.values():
        if contender.is_vendors and not with_vendors:
            continue
        python = home_of(contender)
        if python is None:
            skipped.append(f"{contender.name}: {NO_HOME}")
            continue
        child = Child("costs.calls", contender.name, python=python)
        begun[contender.name] = processes.enter_context(child)
    running = {}
    for name, child in begun.items():
        missing = child.hear().get("missing")
        if missing is None:
            running[name] = child
        else:
            skipped.append(f"{name}: {missing}")
    return running


def _row(times: list[dict[str, float]]) -> dict[str, Any]:
    # From the unwatched batch just before.
    above = [time["watched"] - time["bare"] for time in times]
    return {
        "median": statistics.median(time["watched"] for time in times),
        "bare": statistics.median(time["bare"] for time in times),
        "above": statistics.median(above),
        # What other work disturbs least, to compare one with another. Not of the differences: those
        # are small where the unwatched batch was disturbed.
        "quiet": quantile((time["watched"] for time in times), 0.25)
        - quantile((time["bare"] for time in times), 0.25),
    }


def _tables(found: Found) -> list[Table]:
    ways = found["ways"]
    recipe = ways.get(RECIPE, {}).get("quiet")
    rows = [
        (
            name,
            f"{row['median']:,.0f}",
            f"{row['above']:,.0f}" if name != "bare" else "0",
            digits(row["quiet"] / recipe) if recipe and name != "bare" else "",
            f"{row['single']['p99']:,.0f}",
        )
        for name, row in ways.items()
    ]
    head = ("", "median", "above bare", "of the recipe's", "p99 of single calls")
    title = f"One call of a handler that does nothing, ns ({found['rounds']} rounds of batches)"
    return [Table(title, head, rows)]


def _goals(found: Found) -> list[Goal]:
    ways = found["ways"]
    goals = []
    for name in OURS:
        mine, quiet = ways[name]["above"], ways[name]["quiet"]
        goals.append(Goal(f"{name}: above bare", mine, GOAL_NS, "ns", reason=_SLOW_MACHINE))
        if RECIPE in ways:
            share = quiet / ways[RECIPE]["quiet"]
            what = f"{name}: beside the SIGALRM recipe"
            goals.append(
                Goal(what, share, _MOST_OF_RECIPE, "times", limit=1, reason=_CHEAP_SYSTEM_CALLS)
            )
        rivals = [CONTENDERS[n] for n in ways if CONTENDERS[n].is_rival]
        for does_as_much, reason in ((True, _SLOW_MACHINE), (False, _FIXED_LIMIT)):
            costs = [
                (ways[r.name]["quiet"], r.name) for r in rivals if r.reads_context == does_as_much
            ]
            if costs:
                least, cheapest = min(costs)
                others = "the cheapest other, " if does_as_much else ""
                what = f"{name}: beside {others}{cheapest}"
                goals.append(Goal(what, quiet / least, 1, "times", reason=reason))
    return goals


def _ratios(found: Found) -> list[Ratio]:
    ways = found["ways"]
    if RECIPE not in ways:
        return []
    why = (
        "both are timed in turns in one run, of which the quieter quarter counts; a neighbour "
        "that takes the cache hits Python code harder than system calls"
    )
    recipe = ways[RECIPE]["quiet"]
    return [
        Ratio(f"{name}: above bare, beside the recipe", ways[name]["quiet"] / recipe, 1.4, why)
        for name in OURS
    ]


PART: Final = Part(
    name="calls",
    title="What each invocation pays",
    about="Each way to watch a handler runs in a process of its own, around the same handler, "
    "which does nothing, and with the context of awslambdaric. The ways take turns in batches of "
    "0.7 ms, and each batch follows one of unwatched calls in the same process. *Above bare* is "
    "the median of the differences; two ways are compared by the quieter quarter of both. The p99 "
    "is that of calls that are timed one by one, and includes two readings of the clock.",
    measure=_measure,
    tables=_tables,
    goals=_goals,
    ratios=_ratios,
)


# ---- the process ---------------------------------------------------------------------------------


def main(name: str) -> None:
    """Tell whether it is here; then one line for each line that comes."""
    end_with_parent()
    channel = Channel()
    try:
        handler = CONTENDERS[name].wrap(noop)
        size, bare_size = batch_size(handler), batch_size(noop)
    except ImportError as error:
        channel.tell(missing=str(error))
        return
    channel.tell(size=size)
    for line in sys.stdin:
        given = later()
        if line.startswith("singles"):
            channel.tell(**_singles(handler, given, int(line.split()[1])))
            continue
        # The unwatched ones just before, in the same process: what is left is the watching.
        bare = batch(noop, given, bare_size) / bare_size
        channel.tell(bare=bare, watched=batch(handler, given, size) / size)


def later() -> Any:
    """A context whose deadline is later than that of the first calls, as every later one's is.

    The same deadline would seem to come earlier by up to a millisecond, since the runtime tells
    whole ones, and our thread be rung for that.
    """
    return context(later_ms=1000)


def batch(handler: Handler, given: Any, size: int) -> int:
    calls = range(size)
    began = perf_counter_ns()
    for _ in calls:
        handler(None, given)
    return perf_counter_ns() - began


def _singles(handler: Handler, given: Any, calls: int) -> dict[str, float]:
    """Each call by itself, two readings of the clock included."""
    found = [batch(handler, given, 1) for _ in range(calls)]
    return {"p50": quantile(found, 0.5), "p99": quantile(found, 0.99), "calls": calls}


def batch_size(handler: Handler) -> int:
    batch(handler, context(), 50)
    sleep(0.05)  # whatever starts at the first call has started, and has had its turn
    size = 1
    # The shortest of some: a turn of the scheduler's must not pass for the calls' own time, or a
    # batch would be a few calls with cold caches.
    while (taken := min(batch(handler, later(), size) for _ in range(3))) < _BATCH_NS // 4:
        size *= 2
    return max(1, size * _BATCH_NS // taken)


if __name__ == "__main__":
    main(*sys.argv[1:])
