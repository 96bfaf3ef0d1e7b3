"""Sets how many values are tried: few by default, many if they are asked for."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline is set, because on a busy machine an example may take very long.
settings.register_profile("short", deadline=None, max_examples=100, print_blob=True)
settings.register_profile(
    "long",
    deadline=None,
    max_examples=10_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
