"""A project whose jobs go to Slurm, and what a test does to it meanwhile."""

import re
import subprocess
import time
from collections import Counter
from pathlib import Path

from cluster import Cluster

from project import Project


class Submitted(Project):
    """A project that is run with profiles/slurm."""

    def __init__(self, folder: Path, root: Path, cluster: Cluster):
        super().__init__(folder, root)
        self.cluster = cluster

    def command(self, *arguments):
        # Two cores: a job has the node for itself. Snakemake's own lines are printed.
        options = (*profile_options(self.root), "--quiet", "host", "--cores", "2")
        return super().command(*options, *arguments)

    def start(self, *arguments) -> subprocess.Popen:
        """A run in the background; what it prints goes to head.log."""
        with (self.folder / "head.log").open("w") as log:
            return subprocess.Popen(
                self.command(*arguments), cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )

    def printed(self) -> str:
        """What the run in the background has printed so far."""
        return (self.folder / "head.log").read_text()

    def wait_for(self, head: subprocess.Popen, happened):
        """What `happened` returns once it is true; fails when the run ends before."""
        while True:
            if found := happened():
                return found
            assert head.poll() is None, self.printed()
            time.sleep(0.1)

    def finish(self, head: subprocess.Popen) -> str:
        """Wait for the run's good end; what it printed."""
        assert head.wait() == 0, self.printed()
        return self.printed()


def profile_options(root: Path) -> list[str]:
    """The profile as it is, but for the plugin's first look at a job, after 40 s by default."""
    profile = ["--profile", str(root / "profiles" / "slurm")]
    return [*profile, "--slurm-init-seconds-before-status-checks", "1"]


def submissions(printed: str) -> Counter:
    """{rule/wildcards: how often it was submitted}, from what Snakemake printed."""
    pattern = r"submitted with SLURM jobid \d+ \(log: \S*/rule_(\w+)/(\S+)/"
    return Counter("/".join(found) for found in re.findall(pattern, printed))


def finished(printed: str, rule: str) -> int:
    """How many jobs of the rule Snakemake has seen finish."""
    return len(re.findall(rf"^Finished jobid: \d+ \(Rule: {rule}\)", printed, re.MULTILINE))
