"""What holds for every value, and not only for those that the other tests name.

Hypothesis draws the values. A failure prints how to have them again; ``--hypothesis-seed`` does it
for a whole run, and ``--hypothesis-profile=long`` tries a hundred times as many.
"""
