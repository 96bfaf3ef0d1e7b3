"""Tests of what holds for all values, and not only for those of the other tests.

Hypothesis draws the values. A failure prints how to reproduce them; ``--hypothesis-seed`` does so
for a whole run, and ``--hypothesis-profile=long`` tries a hundred times as many values.
"""
