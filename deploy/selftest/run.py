"""Check what the documentation says about Lambda, claim by claim, and print the results.

    python3 deploy/selftest/run.py --stack watchdog-selftest      # on AWS, after `sam deploy`
    python3 deploy/selftest/run.py --emulator                     # here, what the emulator can show

It deploys nothing. It invokes the functions of a stack that was made from template.yaml, reads
their logs, and changes one function's description, so that Lambda ends its sandbox. It needs only
the standard library and AWS's command line, which has its own settings for account and region; for
the emulator it needs the environment of ``dev.py``.

Exit status: 0 if all claims held; 1 if one did not; 3 if none failed, but some were not checked.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # started as a script, Python looks in this folder only

from deploy.selftest.claims import CLAIMS  # noqa: E402
from deploy.selftest.functions import NotSeenError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.selftest.functions import Platform

NOT_SEEN: Final = 3
"""The exit status if nothing failed, but not everything could be checked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = _parse(arguments)
    if given.list:
        for each in CLAIMS:
            print(f"{each.name:32} {each.text}")
        return 0
    claims = [each for each in CLAIMS if not given.only or each.name in given.only]
    count = {"held": 0, "did not hold": 0, "not seen": 0}
    try:
        for at in _platforms(given):
            print(f"{at.name}:", flush=True)
            for each in claims:
                verdict, seen = each.verdict(at)
                count[verdict] += 1
                print(f"  {verdict:13} {each.name}: {each.text}", flush=True)
                print(f"  {'':13}   {seen}", flush=True)
            if given.dump or given.beside:
                _describe(at, given.dump, given.beside)
    except NotSeenError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    print(", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    if count["did not hold"]:
        return 1
    return NOT_SEEN if count["not seen"] else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--stack", help="a stack that was deployed from template.yaml")
    where.add_argument("--emulator", action="store_true", help="AWS's emulator, on this machine")
    where.add_argument("--list", action="store_true", help="name the claims, and check none")
    names = [each.name for each in CLAIMS]
    parser.add_argument("--only", action="append", choices=names, metavar="CLAIM", default=[])
    parser.add_argument(
        "--package", choices=("Image", "Zip"), action="append", help="of a stack (default: both)"
    )
    parser.add_argument(
        "--timeout", type=int, default=8, help="the functions' timeout in seconds (default: 8)"
    )
    parser.add_argument(
        "--idle", type=float, default=600.0, help="seconds of idling for a freeze (default: 600)"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=120.0,
        help="seconds to wait for the log, and for a sandbox's end (default: 120)",
    )
    parser.add_argument("--dump", type=Path, metavar="FILE", help="write what the image is like")
    parser.add_argument(
        "--beside", type=Path, metavar="FILE", help="print how that differs from an earlier dump"
    )
    return parser.parse_args(arguments)


def _platforms(given: argparse.Namespace) -> Iterator[Platform]:
    if given.emulator:
        from deploy.selftest.emulated import EmulatedPlatform  # noqa: PLC0415 - needs the runtime

        with contextlib.closing(contextlib.ExitStack()) as stack:
            yield stack.enter_context(EmulatedPlatform(given.timeout))
        return
    from deploy.selftest.service import ServicePlatform  # noqa: PLC0415

    for package in given.package or ("Image", "Zip"):
        yield ServicePlatform(
            given.stack,
            package,
            timeout=given.timeout,
            idle=given.idle,
            patience=given.patience,
        )


def _describe(at: Platform, dump: Path | None, beside: Path | None) -> None:
    """Describe the image, for a stand-in of it."""
    lines = [str(line) for line in at.function("plain").invoke("describe").body]
    if dump is not None:
        dump.write_text("\n".join([*lines, ""]), encoding="utf-8")
        print(f"  {at.name}: {len(lines)} lines in {dump}")
    if beside is not None:
        other = beside.read_text(encoding="utf-8").splitlines()
        print("\n".join(difflib.unified_diff(other, lines, str(beside), at.name, lineterm="")))


if __name__ == "__main__":
    sys.exit(main())
