"""The race at an invocation's end, in numbers: by itself, and under adverse conditions."""
