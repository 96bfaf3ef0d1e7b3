"""Run the handler of the pictures into its timeout, and draw what came of it.

python3 dev.py pictures                # two runs of 12 s, and the pictures
python3 dev.py pictures --redraw       # the pictures of the figures that are there
"""

from __future__ import annotations

import argparse
import sys

from . import docs


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="dev.py pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--redraw", action="store_true", help="run nothing")
    given = parser.parse_args()
    if not given.redraw:
        docs.FIGURES.write_text(docs.to_json(docs.measure()), encoding="utf-8")
    for path, text in docs.made_of(docs.read(), docs.read_soak()).items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(docs.ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
