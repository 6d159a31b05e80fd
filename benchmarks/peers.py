"""Python environments of the peers, one for each file of peers/, made when first asked for."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from llm_figures.core.environment import cache_folder

PINS = Path(__file__).resolve().parent / "peers"


def python_of(environment: str) -> Path:
    """The Python of a peer's environment.

    It lies outside the clone, under a name that the pinned versions and this Python decide: other
    pins are another environment, and an interrupted installation is never taken for whole.

    environment: the name of a file in peers/, without its suffix, or "own": this Python.
    """
    if environment == "own":
        return Path(sys.executable)
    pins = PINS / f"{environment}.txt"
    folder = cache_folder() / "peers" / f"{environment}-{_digest(pins)}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "ready"
    if not ready.exists():
        print(f"installing {environment} into {folder}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*install, "--requirement", pins], check=False).returncode:
            sys.exit(f"{environment}: could not be installed from {pins}, see above")
        ready.touch()
    return python


def _digest(pins: Path) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return hashlib.sha256(pins.read_bytes() + version.encode()).hexdigest()[:12]
