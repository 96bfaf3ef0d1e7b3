"""AWS's Runtime Interface Emulator (RIE), fetched once."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from tools import ROOT

_PIN: Final = ROOT / "requirements" / "emulator.txt"
_CACHE: Final = ROOT / ".cache" / "emulator"
_MEMBERS: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


class EmulatorUnavailable(RuntimeError):
    """There is no emulator for this machine, or it could not be fetched; the message says why."""


def fetch_emulator() -> Path:
    """Return the emulator's binary, downloaded at the first call and kept in ``.cache`` after it.

    Or the one that ``AWS_EMULATOR`` names: an environment may have no pip, or be under qemu.

    Raises:
        EmulatorUnavailable: No emulator for this platform, or the download failed.
    """
    if given := os.environ.get("AWS_EMULATOR"):
        return Path(given)
    architecture = _MEMBERS.get(platform.machine().lower())
    if sys.platform != "linux" or architecture is None:
        raise EmulatorUnavailable(
            f"AWS's emulator runs on Linux on x86_64 and arm64, not on {sys.platform} on "
            f"{platform.machine()}; run these tests in a Linux container"
        )
    [pin] = re.findall(r"--hash=sha256:([0-9a-f]{64})", _PIN.read_text(encoding="utf-8"))
    binary: Path = _CACHE / pin[:12] / architecture / "aws-lambda-rie"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        # Next to its final place, because a rename is atomic only within one file system. Of two
        # processes that fetch it at the same time, neither ever runs half a file.
        with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
            member = f"samcli/local/rapid/aws-lambda-rie-{architecture}"
            with zipfile.ZipFile(_download(Path(scratch))) as archive:
                extracted = Path(archive.extract(member, scratch))
            extracted.chmod(0o755)
            extracted.replace(binary)
    return binary


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check"]
    command += ["--requirement", str(_PIN), "--dest", str(folder)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, cwd=folder)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise EmulatorUnavailable(
            f"pip could not download what {_PIN} names; check the network and pip's index "
            f"settings, then try again: {error}\n{error.stderr!s}"
        ) from error
    return next(folder.glob("*.whl"))


if __name__ == "__main__":
    print(fetch_emulator())
