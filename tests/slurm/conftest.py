import os

import pytest
from cluster import cluster, missing
from submitted import Submitted

from project import tiny_files


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


@pytest.fixture
def project(slurm, tmp_path, root):
    """What was made on two cores, to be made by Slurm in other batches; nothing is made yet."""
    tiny_files(tmp_path)
    project = Submitted(tmp_path, root, slurm)
    project.change(shards=2, probe__jobs=2)
    return project
