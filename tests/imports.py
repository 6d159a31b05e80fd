"""Which modules an import of a script loads, in a process per script that is forked, not started.

What scripts share of other projects' packages is imported once, before the forks: first what is
light, then torch and transformers, for the scripts that may load them.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

LIGHT = ("matplotlib.pyplot", "pandas", "pyarrow.parquet", "scipy.stats", "seaborn", "sklearn.svm")
HEAVY = ("torch", "transformers")


def modules_loaded(scripts: Iterable[Path], heavy: set[str]) -> dict[str, list[str]]:
    """{script: files beside and below it that its import loads}, of scripts in one folder.

    heavy: names of the scripts that may load torch and transformers.

    Raises:
        AssertionError: a script cannot be imported, or loads what it may not.
    """
    folders = {str(script.parent) for script in scripts}
    assert len(folders) == 1
    names = [script.stem for script in scripts]
    asked = [[name for name in names if (name in heavy) is wanted] for wanted in (False, True)]
    done = subprocess.run(
        [sys.executable, __file__, *folders, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


def report(folder: str, name: str, refused: Iterable[str]) -> bool:
    """Import the script in a fork, which prints what that loads; False if it fails."""
    if process := os.fork():
        return os.waitpid(process, 0)[1] == 0
    try:
        importlib.import_module(name)
        if loaded := [module for module in refused if module in sys.modules]:
            raise ImportError(f"{name}: loads {' and '.join(loaded)}")
        files = (getattr(module, "__file__", None) for module in sys.modules.values())
        found = [file for file in files if file and file.startswith(f"{folder}/")]
        print(json.dumps([name, found]), flush=True)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def main(folder: str, asked: str) -> bool:
    sys.path[:1] = [folder]
    good = []
    packages = (LIGHT, (*HEAVY, "transformers.modeling_utils", "transformers.generation.utils"))
    for loaded, names, refused in zip(packages, json.loads(asked), (HEAVY, ()), strict=True):
        if names:
            for package in loaded:
                importlib.import_module(package)
        for name in names:
            good.append(report(folder, name, refused))
    return all(good)


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
