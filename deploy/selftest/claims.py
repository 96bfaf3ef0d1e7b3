"""What the documentation says about Lambda, claim by claim, and how each claim is checked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from deploy.selftest.functions import NotSeenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.selftest.functions import Answer, Function, Platform

CLAIMS: Final[list[Claim]] = []
"""In the order in which they are checked."""

_DUMP: Final = r"most recent call first"
_SANDBOXES: Final = 5
"""How many sandboxes to start from one snapshot, and how many workers to keep busy at once."""


class DidNotHoldError(Exception):
    """The claim is wrong here; the message says what was observed instead."""


@dataclass(frozen=True)
class Claim:
    """One statement of the documentation."""

    name: str
    text: str
    needs: tuple[str, ...]
    look: Callable[[Platform], str]

    def verdict(self, at: Platform) -> tuple[str, str]:
        """Check it. Return ``held``, ``did not hold`` or ``not seen``, and what was observed."""
        try:
            for need in self.needs:
                if need in at.lacks:
                    raise NotSeenError(at.lacks[need])  # noqa: TRY301
            return "held", self.look(at)
        except DidNotHoldError as error:
            return "did not hold", str(error)
        except NotSeenError as error:
            return "not seen", str(error)


def claim(*needs: str) -> Callable[[Callable[[Platform], str]], Callable[[Platform], str]]:
    """Turn a function into a claim: its docstring is the claim, and its result the observation."""

    def register(look: Callable[[Platform], str]) -> Callable[[Platform], str]:
        text = " ".join((look.__doc__ or "").split())
        CLAIMS.append(Claim(look.__name__.replace("_", "-"), text, needs, look))
        return look

    return register


def _expect(holds: object, otherwise: object) -> None:
    if not holds:
        raise DidNotHoldError(str(otherwise))


def _expect_timeout_of_ours(answer: Answer, at: Platform) -> None:
    _expect(answer.error == "LambdaTimeout", f"the caller got {answer}")
    _expect(answer.seconds < at.timeout, f"it came only after the limit: {answer}")


def _expect_alive(function: Function, before: object) -> None:
    after = function.invoke("look")
    _expect(after.pid == before, f"process {before} was replaced: {after}")


# ---- with and without the watchdog ---------------------------------------------------------------


@claim()
def killed_without_us(at: Platform) -> str:
    """Without the package, Lambda kills a handler at its timeout, and the process is gone."""
    function = at.function("plain")
    before = function.invoke("look").pid
    killed = function.invoke("sleep")
    after = function.invoke("look").pid
    _expect(killed.is_killed, f"the caller got {killed}")
    _expect(after != before, f"process {before} served on")
    return f"the caller got {killed}"


@claim()
def answered_with_us(at: Platform) -> str:
    """With the package, the caller has an answer before the limit, and the process stays."""
    function = at.function("watched")
    before = function.invoke("look").pid
    answer = function.invoke("sleep")
    _expect_timeout_of_ours(answer, at)
    _expect_alive(function, before)
    _expect(answer.wrote("watchdog.timeout", at.patience), "no record came in the log")
    return f"after {answer.seconds:.2f} of {at.timeout:.0f} s, same process, a record in the log"


@claim("report")
def report_has_no_timeout(at: Platform) -> str:
    """Lambda's report does not call that invocation a timeout, but does so for a killed one."""
    ours = at.function("watched").invoke("sleep")
    killed = at.function("plain").invoke("sleep")
    _expect(not ours.is_reported_as_timeout(at.patience), "the watched one is called a timeout")
    _expect(killed.is_reported_as_timeout(at.patience), "the killed one is not called a timeout")
    return "Status: timeout for the killed one only"


@claim()
def sandbox_permits(at: Platform) -> str:
    """The sandbox permits kernel timers, signals, prctl, SIGSTOP and whatever else we need."""
    found = at.function("watched").invoke("probe")
    _expect(isinstance(found.body, dict) and not found.error, f"the caller got {found}")
    refused = {name: told for name, told in found.body.items() if told != "ok"}
    _expect(not refused, f"{refused}")
    return ", ".join(found.body)


@claim()
def regex_interrupted(at: Platform) -> str:
    """C code that holds the GIL but checks for signals (a regular expression) is interrupted."""
    function = at.function("watched")
    before = function.invoke("look").pid
    answer = function.invoke("match")
    _expect_timeout_of_ours(answer, at)
    _expect_alive(function, before)
    return f"after {answer.seconds:.2f} of {at.timeout:.0f} s"


@claim()
def stacks_before_the_kill(at: Platform) -> str:
    """C code that holds the GIL until the kill leaves every thread's stack in the log."""
    function = at.function("watched")
    # In a fresh process the stack dump is timed by the clock. Once the watchdog has slept through
    # an invocation, it is timed by CPU time, of which a small function gets too little.
    function.invoke("crash")
    answer = function.invoke("compute")
    _expect(answer.is_killed, f"the caller got {answer}")
    _expect(answer.wrote(_DUMP, at.patience), "no stacks came in the log")
    return "the stacks are in the log, and the caller got the kill"


# ---- who answers for what cannot be reached ------------------------------------------------------


@claim()
def answer_before_the_end(at: Platform) -> str:
    """An answer that is posted just before the process exits reaches the caller."""
    answer = at.function("plain").invoke("answer and exit")
    at.function("plain").invoke("look")
    body = answer.body
    _expect(isinstance(body, dict) and body.get("posted"), f"the caller got {answer}")
    return f"the caller got {answer}"


@claim()
def exit_answers(at: Platform) -> str:
    """LAST_RESORT=exit: the caller of a handler that cannot be reached gets LambdaTimeout."""
    function = at.function("exit")
    answer = function.invoke("deadlock")
    after = function.invoke("look")
    _expect_timeout_of_ours(answer, at)
    _expect(after.pid is not None, f"the next caller got {after}")
    return f"after {answer.seconds:.2f} of {at.timeout:.0f} s; the next call has a new process"


@claim()
def another_process_serves(at: Platform) -> str:
    """A process other than the one that Lambda started may ask for the next event."""
    function = at.function("plain")
    first = function.invoke("pass on")
    second = function.invoke("look")
    last = function.invoke("end")
    function.invoke("look")
    body = second.body
    _expect(first.pid is not None, f"the first caller got {first}")
    _expect(second.pid not in {None, first.pid}, f"the second caller got {second}")
    _expect(isinstance(body, dict) and body.get("parent") == first.pid, f"it got {second}")
    _expect(last.pid == second.pid, f"the third caller got {last}")
    return f"two events went to a child of the first process ({first.seconds:.2f} s for the first)"


@claim()
def supervisor_answers(at: Platform) -> str:
    """LAST_RESORT=supervise: the caller gets an answer although the GIL is held to the end."""
    function = at.function("supervised")
    answer = function.invoke("deadlock", gil=True)
    after = function.invoke("look")
    _expect_timeout_of_ours(answer, at)
    _expect(after.pid is not None, f"the next caller got {after}")
    return f"after {answer.seconds:.2f} of {at.timeout:.0f} s; next call in {after.seconds:.2f} s"


@claim()
def supervisor_tells_of_a_crash(at: Platform) -> str:
    """LAST_RESORT=supervise: the caller of a handler that crashes learns so at once."""
    function = at.function("supervised")
    function.invoke("look")
    answer = function.invoke("crash")
    after = function.invoke("look")
    _expect(answer.error == "RuntimeCrash", f"the caller got {answer}")
    _expect("SIGSEGV" in answer.text, f"without the signal's name: {answer}")
    _expect(after.pid is not None, f"the next caller got {after}")
    return f"{answer}"


@claim("memory limit")
def supervisor_tells_of_memory(at: Platform) -> str:
    """LAST_RESORT=supervise: the caller learns of an out-of-memory kill; the next is served."""
    function = at.function("supervised")
    answer = function.invoke("fill memory")
    after = function.invoke("look")
    _expect(answer.error == "RuntimeCrash", f"the caller got {answer}")
    _expect(after.pid is not None, f"the next caller got {after}")
    return f"{answer}"


# ---- the sandbox's life --------------------------------------------------------------------------


@claim()
def hooks_at_the_end(at: Platform) -> str:
    """With SIGTERM=1, the hooks for the sandbox's end run when Lambda ends it."""
    function = at.function("sigterm")
    _expect(function.invoke("look").pid is not None, "the function does not answer")
    left = function.end()
    _expect(left.wrote("the sandbox's hook has run", at.patience), "the hook has not run")
    _expect(left.wrote("watchdog.sandbox_shutdown", at.patience), "no record came in the log")
    return "the hook and the record are in the log"


@claim("freeze")
def nothing_after_a_freeze(at: Platform) -> str:
    """After a long freeze of the sandbox, nothing of an earlier invocation is left."""
    function = at.function("watched")
    function.invoke("sleep")  # a timeout, which leaves timers and a thread behind
    function.invoke("look")
    at.idle()
    answer = function.invoke("look", hold=at.timeout / 4)
    _expect(answer.pid is not None, f"the caller got {answer}")
    _expect(not answer.wrote(f"watchdog.timeout|{_DUMP}", at.patience), "a stray record came")
    return "no record, no stacks, no interrupt"


@claim("snapshot")
def snapshot_restored_several_times(at: Platform) -> str:
    """Several sandboxes that start from one snapshot each interrupt on time."""
    function = at.function("snapstart")
    answers = function.invoke_many(_SANDBOXES, "sleep")
    for answer in answers:
        _expect_timeout_of_ours(answer, at)
    return f"{len(answers)} at once, after {max(a.seconds for a in answers):.2f} s at the most"


@claim("workers")
def workers_interrupt(at: Platform) -> str:
    """Managed Instances: every worker interrupts on time, and continues to serve."""
    function = at.function("managed")
    answers = function.invoke_many(_SANDBOXES, "sleep")
    for answer in answers:
        _expect_timeout_of_ours(answer, at)
    after = function.invoke_many(_SANDBOXES, "look", hold=0.2)
    _expect(all(answer.pid is not None for answer in after), "; ".join(map(str, after)))
    return f"{len(answers)} at once, after {max(a.seconds for a in answers):.2f} s at the most"


@claim("CloudWatch")
def filters_count_one_each(at: Platform) -> str:
    """The metric filters count one for a caught timeout, and one for a kill."""
    # Metrics are per minute: wait for a minute in which nothing else happens.
    time.sleep(60 - time.time() % 60)
    since = time.time()
    at.function("watched").invoke("sleep")
    at.function("plain").invoke("sleep")
    counted = at.counted(since, ("Timeouts", "Kills"))
    _expect(set(counted.values()) == {1.0}, f"counted: {dict(counted)}")
    return "one of each"
