"""AWS's Runtime Interface Emulator (RIE), fetched once."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

__all__ = ["EmulatorUnavailable", "fetch_emulator"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_PIN: Final = _ROOT / "requirements" / "emulator.txt"
_CACHE: Final = _ROOT / ".cache" / "emulator"
_MEMBERS: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


class EmulatorUnavailable(RuntimeError):
    """There is no emulator for this machine, or it could not be fetched; the message says why."""


def fetch_emulator() -> Path:
    """Return the emulator's binary, downloaded at the first call and kept in ``.cache`` after it.

    Raises:
        EmulatorUnavailable: No emulator for this platform, or the download failed.
    """
    architecture = _MEMBERS.get(platform.machine().lower())
    if sys.platform != "linux" or architecture is None:
        raise EmulatorUnavailable(
            f"AWS's emulator runs on Linux on x86_64 and arm64, not on {sys.platform} on "
            f"{platform.machine()}; run these tests in a Linux container"
        )
    pin = re.search(r"--hash=sha256:([0-9a-f]{64})", _PIN.read_text(encoding="utf-8"))
    if pin is None:
        raise EmulatorUnavailable(f"{_PIN} pins no sha256; restore the file from version control")
    binary = _CACHE / pin[1][:12] / architecture / "aws-lambda-rie"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        # Beside its final place, for a rename is atomic only within one file system. Two that fetch
        # at once both succeed, and neither ever runs half a file.
        with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
            extracted = _extract(_download(Path(scratch)), architecture)
            extracted.chmod(0o755)
            extracted.replace(binary)
    return binary


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check"]
    command += ["--requirement", str(_PIN), "--dest", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=600, cwd=folder
        )
    except subprocess.TimeoutExpired as error:
        raise EmulatorUnavailable(
            f"pip did not download what {_PIN} names within 600 s; check the network and try again"
        ) from error
    if done.returncode != 0:
        remedy = "check the network and pip's index settings, then try again"
        if "No module named pip" in done.stderr:
            remedy = f"install pip with: {sys.executable} -m ensurepip"
        raise EmulatorUnavailable(
            f"pip could not download what {_PIN} names (exit status {done.returncode}); {remedy}\n"
            f"{done.stderr.strip()}"
        )
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise EmulatorUnavailable(f"{_PIN} must name one wheel; pip downloaded {len(wheels)}")
    return wheels[0]


def _extract(wheel: Path, architecture: str) -> Path:
    member = f"samcli/local/rapid/aws-lambda-rie-{architecture}"
    with zipfile.ZipFile(wheel) as archive:
        try:
            return Path(archive.extract(member, wheel.parent))
        except KeyError as error:
            raise EmulatorUnavailable(
                f"{wheel.name} has no {member}; pin a version that has it in {_PIN}"
            ) from error


if __name__ == "__main__":
    print(fetch_emulator())
