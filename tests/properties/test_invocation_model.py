"""Tests the core against a model of its promises: any order of steps, both ways of delivery.

Hypothesis draws the steps: arm, let time pass, fire, deliver, swallow, shield, clean up, wind up,
fork, settle, and arm again. A real handler does the steps one after the other, under production's
watchdog, on an invocation whose time is moved. The model, :class:`Model`, knows only the promises:

* an interrupt lands only when one is due, and in its own invocation;
* ``LambdaTimeout`` lands first, then ``Interrupt``, and at last call nothing is spared any more;
* before last call no interrupt lands in a shield, in a cleanup or in a wind-up;
* each hook runs once, in reverse order of registration, and only if the watchdog fires;
* the caller gets the handler's outcome, and one record has it.

Between two steps the handler's thread waits in a frame in which no interrupt lands, so that each
interrupt belongs to the step during which it lands.
"""

from __future__ import annotations

import functools
import math
import os
import queue
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support import BOUND, in_a_fork, landed_outside
from watchdog_lambda import (
    Interrupt,
    LambdaTimeout,
    Watchdog,
    remaining_time,
    scoped_hook,
    shield,
    watch,
)
from watchdog_lambda._cpython.source import PACKAGE
from watchdog_lambda.testing import (
    ClockError,
    FakeContext,
    clock,
    expire,
    isolated_hooks,
    timeout_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT, GRACE, LAST_CALL, EARLY = 900.0, 200.0, 50.0, 400.0
"""Far apart, so that no stall of the machine carries an invocation from one to the next."""


PATIENCE = 3 * BOUND
"""The number of seconds for one step: expire() itself gives up after BOUND."""


# ---- the handler's side: one thread that does the steps ----------------------------------------


class Leave(NamedTuple):
    """Ends the innermost block, with this error if there is one."""

    error: BaseException | None = None


class Abort(BaseException):
    """Ends the handler, whatever block it is in, because a check has failed."""


class Entered:
    """The result of entering a block."""


class Actor:
    """The thread that handlers run on, and the queues of its steps and results."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.steps: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work(self) -> None:
        """Do the jobs until None comes. Thread: the one that is to run the handlers."""
        while (job := self.jobs.get()) is not None:
            self.answers.put(outcome(job))

    def tell(self, step: object) -> Any:
        """Have one step done, and return its result."""
        self.steps.put(step)
        return self.answers.get(timeout=PATIENCE)

    def abort(self) -> None:
        """End the handler that is running."""
        self.steps.put(Leave(Abort()))
        while self.answers.get(timeout=PATIENCE) is not Abort:
            pass

    def serve(self) -> None:
        """Do the steps in the handler until one says to leave. No interrupt lands in this frame."""
        while True:
            step = self.steps.get()
            if isinstance(step, Leave):
                if step.error is not None:
                    raise step.error
                return
            try:
                came_to = step(self)
            except Abort:
                raise
            except BaseException as error:
                came_to = error
            # A library's retry loop, for example, has swallowed it by now.
            self.answers.put(came_to)
            del came_to


# Interrupts are put off here, as in the package's own frames.
Actor.serve.__code__ = Actor.serve.__code__.replace(co_filename=PACKAGE + "<model>")


def outcome(call: Callable[[], object]) -> object:
    """Return the handler's value, or the error that it raises."""
    try:
        return call()
    except BaseException as error:
        return error


# Each of these is code of the user's. Those with a block report that it has been entered.


def in_cleanup(actor: Actor) -> None:
    try:
        expire()
    finally:
        actor.answers.put(Entered)
        actor.serve()


def in_except(actor: Actor) -> None:
    try:
        expire()
    except BaseException:
        actor.answers.put(Entered)
        actor.serve()
        raise


def in_wind_up(actor: Actor) -> None:
    with suppress(ValueError):
        try:  # this frame must catch the interrupt
            expire()
        except BaseException:  # noqa: S110
            pass
        actor.answers.put(Entered)
        actor.serve()


def in_shield(actor: Actor) -> None:
    with shield():
        actor.answers.put(Entered)
        actor.serve()


def in_hooks_scope(hook: Callable[[], object]) -> Callable[[Actor], None]:
    def block(actor: Actor) -> None:
        with scoped_hook(hook):
            actor.answers.put(Entered)
            actor.serve()

    return block


@watch
def inner(_event: object, actor: Actor) -> None:
    actor.answers.put(Entered)
    actor.serve()


def in_inner(actor: Actor) -> None:
    inner({}, actor)


def just_expire(_actor: Actor) -> None:
    expire()


def compute_for(seconds: float) -> Callable[[Actor], None]:
    def compute(_actor: Actor) -> None:
        until = monotonic() + seconds
        while monotonic() < until:
            pass

    return compute


def let_pass(seconds: float) -> Callable[[Actor], None]:
    return lambda _actor: clock.advance(seconds)


def fork(_actor: Actor) -> bytes:
    def look() -> bytes:
        try:
            expire()
        except ClockError:
            return b"unwatched" if remaining_time() == math.inf else b"has a deadline"
        except BaseException as error:
            return f"got {error!r}".encode()
        return b"is watched"

    return in_a_fork(look)


# ---- the model -----------------------------------------------------------------------------------


class Block:
    """A block that the handler is in."""

    def __init__(self, kind: str, landed: int | None = None, scope: str | None = None) -> None:
        self.kind = kind
        self.landed = landed  # the number of the interrupt that it handles or has caught
        self.scope = scope  # the hook that is registered for this block


class Model:
    """A model of one invocation, which knows the promises and nothing of the core."""

    def __init__(self, interrupt: str, hooks: list[str]) -> None:
        self.interrupt = interrupt
        self.hooks = [*hooks]  # in order of registration
        self.blocks: list[Block] = []
        self.fired = False
        self.early = False  # whether the stage before the grace period has run
        self.last_call = False
        self.killed = False  # whether it has reached the time when Lambda kills
        self.landed: list[str] = []
        self.caught = 0  # the number of the interrupt that the user's own code has caught
        self.after_last_call = 0  # how many interrupts have landed after last call
        self.ran: list[str] = []  # the hooks that must have run

    @property
    def is_shielded(self) -> bool:
        return any(block.kind == "shield" for block in self.blocks)

    @property
    def is_cleaning_up(self) -> bool:
        """Whether an ``except`` or ``finally`` that handles an interrupt is running."""
        return any(b.kind in {"cleanup", "except"} and b.landed is not None for b in self.blocks)

    @property
    def is_winding_up(self) -> bool:
        """Whether the user's own code has caught the last interrupt, and goes on to its end."""
        return 0 < self.caught == len(self.landed)

    @property
    def may_land(self) -> bool:
        """Whether an interrupt can land now, in any of the user's bytecode."""
        if self.interrupt == "none" or not self.fired:
            return False
        if self.killed:
            return True  # Lambda does not kill here
        if not self.last_call:
            return not (self.is_shielded or self.is_cleaning_up or self.is_winding_up)
        return not (self.after_last_call and self.is_cleaning_up)

    def next_kind(self) -> str:
        first = not self.landed and self.interrupt == "timeout-error"
        return "LambdaTimeout" if first else "Interrupt"

    def fire(self) -> None:
        if not self.fired:
            self.fired = self.early = True
            self.ran = self.hooks[::-1]

    def expire(self, *, is_back: bool = False) -> str:
        """Return what must end a call that takes longer than the handler has time.

        `is_back` in the block that the last one was caught around: that was no wind-up.
        """
        self.fire()
        if self.interrupt == "none":
            return "returns"
        if self.is_shielded and not self.last_call:
            return "returns"
        if self.is_cleaning_up or (self.is_winding_up and not is_back):
            if self.after_last_call and self.is_cleaning_up:
                self.killed = True
                return "ClockError"
            self.last_call = True
        return self.next_kind()

    def land(self, kind: str) -> None:
        self.landed.append(kind)
        self.after_last_call += self.last_call


def kind_of(came_to: object) -> str:
    if isinstance(came_to, Interrupt):
        return "Interrupt"  # or a LoopInterrupt, which event loops pass on
    if isinstance(came_to, LambdaTimeout | ClockError):
        return type(came_to).__name__
    return "returns"


def step(function: Callable[..., None]) -> Callable[..., None]:
    """Mark a rule. If it fails, handler and model are not used together any more."""

    @functools.wraps(function)
    def wrapped(self: Invocations, **drawn: Any) -> None:
        self.is_apart = True
        function(self, **drawn)
        self.is_apart = False

    return wrapped


# ---- the steps -----------------------------------------------------------------------------------


class Invocations(RuleBasedStateMachine):
    """Runs every step on the handler and on the model.

    The choice of steps depends on nothing that the machine's speed could change. A step that
    makes no sense in the current state does nothing.
    """

    actor: Actor

    def __init__(self) -> None:
        super().__init__()
        self.model: Model | None = None
        self.is_apart = False
        self.called: list[str] = []
        self.own_error = ValueError("the handler's own")
        self.value = object()
        self.hooks: list[str] = []
        self.scopes = 0
        self.isolated = isolated_hooks()
        self.isolated.__enter__()
        self.collect = timeout_records()
        self.records = self.collect.__enter__()
        self.watchdogs = {
            kind: Watchdog(grace_period=GRACE, last_call=LAST_CALL, interrupt=kind)
            for kind in ("timeout-error", "base", "none")
        }
        for watchdog in self.watchdogs.values():
            watchdog.shutdown_hook(before=EARLY)(lambda _details: self.called.append("early"))

    # ---- arm and settle

    @precondition(lambda self: self.model is None)
    @rule(interrupt=st.sampled_from(["timeout-error", "timeout-error", "base", "none"]))
    @step
    def arm(self, interrupt: str) -> None:
        self.model = Model(interrupt, self.hooks)
        self.called.clear()
        self.records.clear()
        self.value = object()
        self.own_error = ValueError("the handler's own")
        actor = self.actor

        def handler(_event: object, _context: object) -> object:
            actor.answers.put(Entered)
            try:
                actor.serve()
            except Abort:
                return Abort
            return self.value

        watched = self.watchdogs[interrupt].watch(handler)
        actor.jobs.put(lambda: watched({}, FakeContext(TIMEOUT)))
        assert actor.answers.get(timeout=PATIENCE) is Entered

    @precondition(lambda self: self.model is not None)
    @rule(how=st.sampled_from(["returns", "fails", "lets it out"]))
    @step
    def settle(self, how: str) -> None:
        self.finish(how)

    def finish(self, how: str) -> None:
        model = self.take()
        while model.blocks:
            self.leave_innermost(model)
        error: BaseException | None = self.own_error if how == "fails" else None
        if how == "lets it out" and model.landed:
            error = Interrupt() if model.landed[-1] == "Interrupt" else LambdaTimeout()
        came_to = self.actor.tell(Leave(error))
        self.model = None

        # From here on nothing lands any more, and no result is lost.
        if error is None:
            assert came_to is self.value
        elif error is self.own_error:
            assert came_to is error
            notes = getattr(error, "__notes__", [])
            assert len(notes) == bool(model.landed)
        else:
            assert isinstance(came_to, LambdaTimeout)
        self.actor.jobs.put(lambda: (landed_outside(0.002), remaining_time()))
        assert self.actor.answers.get(timeout=PATIENCE) == ([], math.inf)
        self.check_record(model, "returned" if error is None else "raised")

    def check_record(self, model: Model, how: str) -> None:
        assert len(self.records) == model.fired
        if not model.fired:
            return
        record = self.records[0]
        assert record["outcome"] == ("stuck" if model.killed else how)
        names = [i["exception"].replace("Loop", "") for i in record["interrupts"]]
        if not record.get("interrupts_left_out"):
            assert names == model.landed
        assert all(i["outcome"] != "pending" for i in record["interrupts"])
        hooks = [hook["outcome"] for hook in record["hooks"]]
        assert hooks == ["ok"] * len(hooks)
        assert len(hooks) == len(model.ran) + model.early

    def take(self) -> Model:
        assert self.model is not None
        return self.model

    # ---- steps that any handler takes

    @precondition(lambda self: self.model is None and len(self.hooks) < 4)
    @rule()
    @step
    def register_hook(self) -> None:
        name = f"hook {len(self.hooks)}"
        self.hooks.append(name)
        for watchdog in self.watchdogs.values():
            watchdog.shutdown_hook(lambda _details: self.called.append(name))

    @precondition(lambda self: self.model is not None)
    @rule()
    @step
    def works(self) -> None:
        model = self.take()
        if model.may_land:
            # An injected interrupt can then land between this step and the next one, where it is
            # not seen.
            return
        # After the watchdog has fired, this is long enough for an interrupt that must not come.
        seconds = 0.03 if model.fired else 0.0
        self.judge(self.actor.tell(compute_for(seconds)), {"returns"})

    @precondition(lambda self: self.model is not None and not self.model.fired)
    @rule(seconds=st.sampled_from([0.0, 1.0, 100.0, 300.0]))
    @step
    def time_passes(self, seconds: float) -> None:
        """Let time pass, but never up to the grace period."""
        model = self.take()
        left = self.actor.tell(lambda _actor: remaining_time())
        if left - seconds > GRACE + 50:
            model.early = model.early or left - seconds < EARLY
            self.judge(self.actor.tell(let_pass(seconds)), {"returns"})

    @precondition(lambda self: self.model is not None)
    @rule()
    @step
    def expires_in_a_library(self) -> None:
        """Let the time run out in a library's code, which swallows the interrupt."""
        model = self.take()
        if model.killed:
            return
        expected = model.expire()
        came_to = self.actor.tell(just_expire)
        self.judge(came_to, {expected})

    @precondition(lambda self: self.model is not None)
    @rule(
        block=st.sampled_from(
            [(in_cleanup, "cleanup"), (in_except, "except"), (in_wind_up, "wind-up")]
        )
    )
    @step
    def expires_in_a_block(self, block: tuple[Callable[[Actor], None], str]) -> None:
        """Let the time run out in a block whose own code handles the interrupt.

        The code goes on to its end.
        """
        model = self.take()
        if model.killed:
            return
        step, kind = block
        expected = model.expire(is_back=kind == "wind-up")
        came_to = self.actor.tell(step)
        if expected == "returns" and kind == "except":
            assert came_to is None, "no interrupt was due"
            return
        assert came_to is Entered
        if expected in {"LambdaTimeout", "Interrupt"}:
            model.land(expected)
            model.blocks.append(Block(kind, len(model.landed)))
            if kind == "wind-up":
                model.caught = len(model.landed)
        else:
            model.blocks.append(Block(kind if expected == "ClockError" else "scope"))

    @precondition(lambda self: self.model is not None)
    @rule(kind=st.sampled_from(["shield", "scoped hook", "inner"]))
    @step
    def enters(self, kind: str) -> None:
        model = self.take()
        if len(model.blocks) > 5 or model.may_land:
            return
        scope: str | None = None
        block: Callable[[Actor], None] = in_shield if kind == "shield" else in_inner
        if kind == "scoped hook":
            self.scopes += 1
            name = scope = f"scope {self.scopes}"
            block = in_hooks_scope(lambda: self.called.append(name))
        assert self.actor.tell(block) is Entered
        model.blocks.append(Block("shield" if kind == "shield" else "scope", scope=scope))
        if scope is not None:
            model.hooks.append(scope)

    @precondition(lambda self: self.model is not None and self.model.blocks)
    @rule()
    @step
    def leaves(self) -> None:
        self.leave_innermost(self.take())

    def leave_innermost(self, model: Model) -> None:
        block = model.blocks.pop()
        came_to = self.actor.tell(Leave())
        if block.scope is not None:
            model.hooks.remove(block.scope)
        if block.kind in {"cleanup", "except"} and block.landed is not None:
            # The interrupt leaves the block, unless another error replaces it; here a library
            # swallows it.
            assert isinstance(came_to, LambdaTimeout | Interrupt)
            if kind_of(came_to) != model.landed[block.landed - 1]:
                self.note_late(model, came_to)
            return
        if model.killed and isinstance(came_to, ClockError):
            return
        self.judge(came_to, {"returns"})

    @precondition(lambda self: self.model is not None)
    @rule()
    @step
    def forks(self) -> None:
        """Fork: the child has no invocation, and the parent's goes on."""
        if self.take().may_land:
            return
        assert self.actor.tell(fork) == b"unwatched"

    # ---- what always holds

    def judge(self, came_to: object, expected: set[str]) -> None:
        """Compare the results of a step. An interrupt that was due anyway may have landed in it."""
        model = self.take()
        kind = kind_of(came_to)
        if kind in expected:
            if kind in {"LambdaTimeout", "Interrupt"}:
                model.land(kind)
            return
        assert kind in {"LambdaTimeout", "Interrupt"}, f"{came_to!r} instead of {expected}"
        self.note_late(model, came_to)

    def note_late(self, model: Model, came_to: object) -> None:
        assert model.may_land, f"{came_to!r} must not have landed here"
        assert kind_of(came_to) == model.next_kind(), repr(came_to)
        model.land(kind_of(came_to))

    @invariant()
    def hooks_have_run_once_each_and_in_order(self) -> None:
        if self.model is not None:
            wanted = ["early"] * self.model.early + self.model.ran
            assert self.called == wanted

    @invariant()
    def no_more_than_one_record(self) -> None:
        assert len(self.records) <= 1

    def teardown(self) -> None:
        try:
            if self.model is not None and not self.is_apart:
                self.is_apart = True
                self.finish("returns")
                self.is_apart = False
        finally:
            if self.is_apart and self.model is not None:
                self.actor.abort()
            self.collect.__exit__(None, None, None)
            self.isolated.__exit__(None, None, None)


@pytest.fixture
def actor() -> Iterator[Actor]:
    acting = Actor()
    Invocations.actor = acting
    yield acting
    acting.jobs.put(None)


CHECKS = settings(
    max_examples=max(15, settings().max_examples // 5),
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_model_holds_on_another_thread_with_injection(actor: Actor) -> None:
    """The model holds on another thread, where interrupts are injected."""
    thread = threading.Thread(target=actor.work, name="handlers")
    thread.start()
    try:
        run_state_machine_as_test(Invocations, settings=CHECKS)
    finally:
        actor.jobs.put(None)
        thread.join()


def test_model_holds_on_main_thread_with_nudges(actor: Actor) -> None:
    """The model holds on the main thread, as on Lambda, where the nudge raises interrupts."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            run_state_machine_as_test(Invocations, settings=CHECKS)
        except BaseException as error:
            failures.append(error)
        finally:
            actor.jobs.put(None)

    thread = threading.Thread(target=run, name="steps")
    thread.start()
    actor.work()
    thread.join()
    if failures:
        raise failures[0]
    assert os.getpid() == threading.main_thread().native_id
