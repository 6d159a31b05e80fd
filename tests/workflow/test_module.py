"""The workflow as a Snakemake module of somebody else's, run from another folder."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from project import FIGURES

pytestmark = pytest.mark.workflow

SNAKEFILE = """
configfile: "mine.yaml"

module llm_figures:
    snakefile: "{snakefile}"
    config: config["llm_figures"]

use rule * from llm_figures{prefix}

rule strongest:
    default_target: True
    input: "results/tiny/modules/scores.parquet"
    output: "strongest.csv"
    run:
        import pandas as pd
        scores = pd.read_parquet(input[0])
        scores.nlargest(1, "value").to_csv(output[0], index=False)
"""


@pytest.fixture
def importing(made, tmp_path, root):
    """A folder with a Snakefile of its own; the results of a run of the workflow itself."""
    made.copy(tmp_path)

    def write(prefix=""):
        text = SNAKEFILE.replace("{snakefile}", str(root / "workflow" / "Snakefile"))
        (tmp_path / "Snakefile").write_text(text.replace("{prefix}", prefix))
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"llm_figures": made.overlay}))
        shutil.copytree(root / "profiles", tmp_path / "profiles", dirs_exist_ok=True)
        return tmp_path

    return write


def run(folder, *arguments):
    """What Snakemake prints, run as its user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("prefix", ["", " as llm_*"])
def test_a_rule_of_the_users_takes_our_outputs(importing, prefix):
    folder = importing(prefix)
    name = prefix.removeprefix(" as ").removesuffix("*")
    # what the workflow itself made is as good as its own: digests do not depend on who asks
    for target in ("figures", *FIGURES):
        assert "Nothing to be done" in run(folder, "--dry-run", f"{name}{target}")
    (folder / "results/tiny/modules/scores.parquet").unlink()
    output = run(folder)
    assert set(re.findall(r"^(?:local)?rule (\w+):", output, re.M)) == {
        f"{name}score_modules",
        "strongest",
    }
    assert (folder / "strongest.csv").read_text().startswith("layer,")


def test_its_manifest_names_our_rules_without_their_prefix(importing):
    folder = importing(" as llm_*")
    manifest = folder / "results/tiny/manifest.json"
    before = manifest.read_bytes()
    manifest.unlink()
    run(folder, "llm_figures")
    made_by = re.compile(rb'"made_by": "(\w+)"')
    assert set(made_by.findall(manifest.read_bytes())) == set(made_by.findall(before))
    assert re.search(r"\d+ of \d+ jobs of llm_figures would run", run(folder, "llm_plan"))
