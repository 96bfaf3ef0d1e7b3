"""The mechanisms of CPython and the kernel that the engine uses; no policy."""
