import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
# What takes long is begun first, so that no worker is left alone with it at the end.
FIRST = ("acceptance", "slow", "slurm", "workflow", "browser")
# Tests that share something costly, by the start of their names, stay with one worker.
TOGETHER = (
    "tests/acceptance/",
    "tests/slurm/",
    "tests/browser/",
    "tests/workflow/test_bundle.py",
    "tests/workflow/test_checkpoints.py",
    "tests/workflow/test_finetune.py",
    "tests/unit/provenance/test_report.py",
)

# Threads of torch that wait leave their core to the tests beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Figures are drawn into files alone.
os.environ.setdefault("MPLBACKEND", "Agg")
# Some containers set it; every job would compile the library anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Nothing of the library is imported up here: the workers inherit the environment of the process
# that starts them, and huggingface_hub is told by it to stay offline once a model was loaded.


def pytest_xdist_auto_num_workers() -> int:
    """Workers of `-n auto`; each takes a core and about a gigabyte of memory."""
    return min(os.cpu_count() or 1, 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Every test goes to the worker that is free, but for those that stay together."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return next((start for start in TOGETHER if nodeid.startswith(start)), nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item):
        marked = (n for n, name in enumerate(FIRST) if item.get_closest_marker(name))
        return next(marked, len(FIRST)), not item.nodeid.startswith(TOGETHER)

    items.sort(key=rank)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models lose more to threads than they gain."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """once(name, fill): a folder that `fill(folder)` has filled, once for all workers."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def shared(name, fill):
        folder, filled = base / name, base / f"{name}.filled"
        with FileLock(base / f"{name}.lock"):
            if not filled.exists():
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return shared


@pytest.fixture(scope="session")
def made(once, root):
    """A project with all five figures made, without a network; not to be changed."""
    from project import Project, refuse_network, tiny_project

    def fill(folder):
        tiny_project(folder, root).run(**refuse_network(folder / "blocked"))

    return Project(once("made", fill), root)


@pytest.fixture(scope="session")
def divided(once, root):
    """The same figures made on two cores, in other batches, shards and jobs; not to be changed."""
    from project import Project, tiny_project

    def fill(folder):
        project = tiny_project(folder, root)
        project.change(batch_size=7, shards=2, probe__jobs=2)
        project.run("--cores", "2")

    return Project(once("divided", fill), root)


@pytest.fixture
def default_config() -> dict:
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


@pytest.fixture
def options(default_config) -> dict:
    """The figures' options, with defaults."""
    from llm_figures.core.options_reader import read_options
    from llm_figures.workflow.config import Config

    return read_options(Config, default_config, "config").figures.plain()
