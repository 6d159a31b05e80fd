import os

import pytest
from cluster import cluster, missing
from submitted import Submitted

from project import tiny_project


@pytest.fixture(scope="session")
def slurm():
    """A running cluster, which Snakemake finds in the environment."""
    if lacking := missing():
        message = f"Slurm is not installed ({', '.join(lacking)}); Debian: slurm-wlm and munge"
        if os.environ.get("LLM_FIGURES_REQUIRE_SLURM"):
            pytest.fail(message)
        pytest.skip(message)
    with cluster() as running, pytest.MonkeyPatch.context() as patch:
        for key in ("SLURM_CONF", "PATH"):
            patch.setenv(key, running.environment[key])
        yield running


@pytest.fixture(scope="session")
def local(tmp_path_factory, root):
    """The tiny model's figures, made without Slurm, in two shards; not to be changed."""
    project = tiny_project(tmp_path_factory.mktemp("local"), root)
    project.change(shards=2)
    project.run()
    return project


@pytest.fixture
def project(slurm, tmp_path, root):
    """The same project, to be run by Slurm, with nothing made yet."""
    tiny_project(tmp_path, root)
    project = Submitted(tmp_path, root, slurm)
    project.change(shards=2)
    return project
