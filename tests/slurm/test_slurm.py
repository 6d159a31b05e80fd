"""The workflow on a real Slurm of one node: the figures of a local run, and what a cluster does."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster import GPU
from snakemake.settings.types import SharedFSUsage
from submitted import finished, profile_options, submissions

from llm_figures.claims.figures import FIGURES
from llm_figures.core.checksums import sha256
from llm_figures.provenance.reproduction import SAME_BYTES, compare_runs

pytestmark = pytest.mark.slurm

# One job per model and stage, or per shard of a stage.
SUBMITTED = {
    "extract_attention_states": 1,
    "measure_modules": 1,
    "generate_answers": 2,
    "extract_hidden_states": 2,
    "ask_p_true": 2,
    "score_probes": 2,
    "collect_probe_scores": 1,
}
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile"]
ANSWERS = "results/tiny/forward/answers.parquet"


def differing(local, project):
    """{file: how it differs from that of the local run}, of the files that the project has."""
    found = compare_runs(local.folder / "results", project.folder / "results")
    assert SAME_BYTES in found.values()
    return {
        name: how for name, how in found.items() if how not in (SAME_BYTES, "only in the first run")
    }


def in_state(project, state, rule):
    """The id and shard of a job of the rule in this state."""
    for number, comment in project.cluster.jobs(state).items():
        if found := re.fullmatch(rf"rule_{rule}_wildcards_tiny__(\d)_2", comment):
            return number, found[1]
    return None


def second_shard_running(project, head, rule):
    """The id and shard of a running job whose neighbour the head has seen finish.

    The node has room for one at a time; the second is held back until the head has looked.
    """
    project.wait_for(head, lambda: in_state(project, "running", rule))
    number, _ = project.wait_for(head, lambda: in_state(project, "pending", rule))
    project.cluster.call("scontrol", "hold", number)
    project.wait_for(head, lambda: finished(project.printed(), rule))
    project.cluster.call("scontrol", "release", number)
    return project.wait_for(head, lambda: in_state(project, "running", rule))


def test_the_profile_states_what_it_assumes_of_the_file_system(root):
    profile = yaml.safe_load((root / "profiles" / "slurm" / "config.yaml").read_text())
    assert set(profile["shared-fs-usage"]) == set(SharedFSUsage.choices()) - {"none"}
    # What both set, profiles/default decides, without a word.
    default = yaml.safe_load((root / "profiles" / "default" / "config.yaml").read_text())
    assert not profile.keys() & default.keys()


def test_the_five_figures_are_those_of_a_local_run_to_the_byte(divided, project):
    _, printed = project.run()
    found = compare_runs(divided.folder / "results", project.folder / "results")
    assert {name: how for name, how in found.items() if how != SAME_BYTES} == {}
    assert {f"tiny/figures/{figure}.pdf" for figure in FIGURES} < found.keys()

    submitted = submissions(printed)
    assert set(submitted.values()) == {1}
    counts = {rule: sum(job.startswith(f"{rule}/") for job in submitted) for rule in SUBMITTED}
    assert counts == SUBMITTED
    assert len(submitted) == sum(SUBMITTED.values())
    # Drawing, claims and above all downloads stay on the head node.
    here = set(re.findall(r"^localrule (\w+):", printed, re.MULTILINE))
    assert {"prepare_model", "build_questions", "score_attention", "render_figure"} < here
    assert not here & SUBMITTED.keys()
    assert project.planned() == {}


def test_a_cancelled_job_is_run_again_and_no_other(divided, project):
    head = project.start(ANSWERS)
    number, shard = second_shard_running(project, head, "generate_answers")
    done = project.results / f"forward/generations/{1 - int(shard)}-of-2.parquet"
    written = done.stat().st_mtime_ns
    project.cluster.call("scancel", number)
    other = 1 - int(shard)
    assert submissions(project.finish(head)) == {
        f"generate_answers/tiny__{shard}_2": 2,
        f"generate_answers/tiny__{other}_2": 1,
    }
    assert project.cluster.states()[number] == "CANCELLED"
    assert done.stat().st_mtime_ns == written
    assert differing(divided, project) == {}


def test_a_run_whose_head_was_killed_goes_on_beside_its_own_orphan(divided, project):
    head = project.start(ANSWERS)
    orphan, shard = second_shard_running(project, head, "generate_answers")
    head.send_signal(signal.SIGKILL)
    head.wait()
    # It goes on once the next run has submitted its job anew, however fast either is.
    project.cluster.call("scontrol", "suspend", orphan)
    done = project.results / f"forward/generations/{1 - int(shard)}-of-2.parquet"
    written = done.stat().st_mtime_ns

    # The job of the killed run still writes the file that is now written anew.
    again = project.start(ANSWERS)
    project.wait_for(again, lambda: submissions(project.printed()))
    assert f"removed the lock of process {head.pid} on " in project.printed()
    project.cluster.call("scontrol", "resume", orphan)
    submitted = submissions(project.finish(again))
    assert submitted == {f"generate_answers/tiny__{shard}_2": 1}
    assert project.cluster.states()[orphan] == "COMPLETED"
    assert done.stat().st_mtime_ns == written
    assert differing(divided, project) == {}
    assert not list(project.results.rglob("*.partial"))
    assert project.planned(ANSWERS) == {}


def test_a_job_beyond_its_memory_gets_more_on_the_gpus_it_asked_for(divided, project):
    resources = ["mem_mb=200 if attempt == 1 else 4000", "gpu=2", f"gpu_model={GPU}"]
    _, printed = project.run(
        *("--set-resources", *(f"measure_modules:{resource}" for resource in resources)),
        *("--", "results/tiny/forward/module_activity.parquet"),
    )
    assert submissions(printed) == {"measure_modules/tiny": 2}
    (log,) = project.folder.glob("results/_slurm/rule_measure_modules/tiny/*.log")
    assert "exceeded memory limit" in log.read_text()
    last = max(project.cluster.states(), key=int)
    told = project.cluster.call("scontrol", "show", "job", last)
    assert f"gres/gpu:{GPU}=2" in told or f"gpu:{GPU}:2" in told
    assert "MinMemoryNode=4000M" in told
    assert differing(divided, project) == {}


def test_a_node_that_does_not_see_the_model_says_so_in_one_line(project):
    project.run("results/tiny/model.json")
    model_info = project.results / "model.json"
    elsewhere = "/only/on/the/head/node"
    model_info.write_text(json.dumps(json.loads(model_info.read_text()) | {"folder": elsewhere}))
    # as if this were what its job wrote, or else it would be made again
    record = project.results / "records" / "model.json.json"
    made = {"bytes": model_info.stat().st_size, "sha256": sha256(model_info)}
    record.write_text(json.dumps(json.loads(record.read_text()) | made))
    target = "results/tiny/forward/module_activity.parquet"
    code, printed = project.run("--retries", "0", "--", target, check=False)
    assert code != 0
    told = (project.results / "logs/measure_modules.log").read_text()
    lines = [line for line in told.splitlines() if f"model folder {elsewhere}, named in" in line]
    assert len(lines) == 1, told
    assert "is missing or incomplete on " in lines[0]
    assert "XDG_CACHE_HOME" in lines[0]
    assert lines[0] in printed  # as the log of a failed job
    assert "Traceback" not in printed


@pytest.mark.slow
def test_the_default_models_figures_are_those_of_a_local_run(slurm, tmp_path, root):
    # `make acceptance` and `make test` leave their run there; without it, it is made here.
    kept = os.environ.get("LLM_FIGURES_DEFAULT_RUN")
    local = Path(kept) if kept else tmp_path / "local"
    submitted = tmp_path / "slurm"

    def run(folder, *arguments, **environment):
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [*SNAKEMAKE, str(root / "Snakefile"), *arguments, "figures"],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    run(local)
    # The model is in the cache: from here on, neither head node nor compute node has a network.
    nowhere = {f"{kind}_PROXY": "http://127.0.0.1:9" for kind in ("HTTP", "HTTPS", "ALL")}
    nowhere |= {name.lower(): value for name, value in nowhere.items()}
    printed = run(submitted, "--cores", "2", *profile_options(root), **nowhere)
    found = compare_runs(local / "results", submitted / "results")
    made = {name: how for name, how in found.items() if how != "only in the first run"}
    assert {name: how for name, how in made.items() if how != SAME_BYTES} == {}
    assert {f"smollm2-135m/figures/{figure}.pdf" for figure in FIGURES} < made.keys()
    assert len(submissions(printed)) == len(SUBMITTED)
