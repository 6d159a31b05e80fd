"""What `make` says while it builds the environment."""

import os
import shutil
import subprocess

import pytest

# Stands for Python: it makes an environment of itself, and its pip does nothing.
PYTHON = """\
#!/bin/sh
case "$2" in
    venv) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    pip) exit "$PIP_ENDS_WITH" ;;
esac
"""


@pytest.fixture
def build(tmp_path, root):
    """build(target, code): what making the environment prints where pip ends with this code."""
    for name in ("Makefile", "requirements.txt", "requirements-figures.txt"):
        shutil.copy(root / name, tmp_path / name)
    python = tmp_path / "python3"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def make(target, code):
        return subprocess.run(
            ["make", "--no-print-directory", target, f"PYTHON={python}"],
            cwd=tmp_path,
            env=os.environ | {"PIP_ENDS_WITH": str(code)},
            capture_output=True,
            text=True,
            check=False,
        )

    return make


@pytest.mark.parametrize(("folder", "size"), [(".venv", "1.9 GB"), (".venv-figures", "0.6 GB")])
def test_it_says_before_and_after_what_it_installs(build, tmp_path, folder, size):
    done = build(f"{folder}/ready", 0)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith(f"Installing into {folder}, once: about {size}, ")
    assert last == f"Installed into {folder}"
    assert (tmp_path / folder / "ready").exists()


@pytest.mark.parametrize("folder", [".venv", ".venv-figures"])
def test_a_failed_installation_says_what_to_check(build, tmp_path, folder):
    done = build(f"{folder}/ready", 1)
    assert done.returncode != 0
    first, *_ = done.stderr.splitlines()
    assert first == (
        f"{folder} is not complete: check the network, a proxy or PIP_INDEX_URL, and the free "
        "space, then make it again"
    )
    assert not (tmp_path / folder / "ready").exists()
