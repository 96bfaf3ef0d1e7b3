"""The garbage collector, held off while another thread's frames are looked at.

Up to 3.11 making a frame object can start it. Its finalisers can let the GIL go, and the thread
return from the very frame that the object is being made for: that has crashed 3.11.7, see
:mod:`._stacks`.
"""

from __future__ import annotations

import gc


class HeldOff:
    """A block in which no garbage is collected. Thread: any; not for several at once."""

    __slots__ = ("_was_enabled",)

    def __enter__(self) -> None:
        """Hold it off."""
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        """Let it go on, if it was on."""
        if self._was_enabled:
            gc.enable()
