"""`pip install .` gives `import llm_figures`, away from the clone."""

import shutil
import subprocess
import sys


def test_the_installed_library_is_whole(tmp_path, root):
    """Every module of every room is in it, and one is imported as a notebook would."""
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    build = ["--target", str(tmp_path / "installed"), str(copied(root, tmp_path / "source"))]
    subprocess.run([*install, *build], check=True, capture_output=True)

    def modules(folder):
        return {path.relative_to(folder) for path in (folder / "llm_figures").rglob("*.py")}

    assert modules(tmp_path / "installed") == modules(root / "scripts")
    code = "import llm_figures.attention.interventions as i; print(i.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(tmp_path / "installed"))


def copied(root, folder):
    """What a build reads, in a folder that it may write to."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, folder)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(root / "scripts", folder / "scripts", ignore=ignored)
    return folder
