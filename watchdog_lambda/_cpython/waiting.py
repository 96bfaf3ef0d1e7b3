"""Whether the main thread is blocked in a system call, and not waiting for the GIL or its turn.

The kernel tells in ``/proc/self/task/TID/syscall`` which call a thread is in, if it is off its
processor. To read that lets go of the GIL, so the thread's processor time is read before and after
it, which does not: if it has stood still, the thread is in that call yet. A wait for the GIL looks
like one for a lock with a time limit, so nothing is known of either.
"""

from __future__ import annotations

import os
import time

_FUTEX = {"x86_64": 202, "aarch64": 98}
"""The system call's number, as in the kernel's ``unistd.h``."""


def main_is_blocked(thread_id: int) -> bool:
    """Whether the main thread is blocked for sure; `thread_id` is its. Thread: any other.

    False where nothing is known.
    """
    try:
        clock = time.pthread_getcpuclockid(thread_id)
        before = time.clock_gettime(clock)
        descriptor = os.open(f"/proc/self/task/{os.getpid()}/syscall", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(descriptor, 256)
        finally:
            os.close(descriptor)
        return _tells_of_a_wait(line) and time.clock_gettime(clock) == before
    except (OSError, ValueError, AttributeError):
        return False


def _tells_of_a_wait(line: bytes) -> bool:
    # "running", or the call's number and six arguments, the stack's pointer and the instruction's.
    fields = line.split()
    if len(fields) < 9:
        return False
    number = int(fields[0])
    if number == _FUTEX.get(os.uname().machine):
        return fields[4] == b"0x0"  # no time limit
    return number >= 0
