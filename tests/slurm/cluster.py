"""A Slurm cluster of one node on this machine: munged, slurmctld and slurmd, in a folder.

For a machine that runs nothing but tests: no accounting, no cgroups, no systemd; the daemons belong
to the user who starts them, listen on free ports, and are stopped when the block is left.
"""

import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

COMMANDS = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo"]
# The node pretends to have four; Slurm asks of them no more than four files.
GPU = "a100"
# A job beyond its memory is seen within this many seconds.
WATCHED_EVERY = 1

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
# A job beyond its memory is killed, as cgroups would do on a cluster.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task={watched}
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# What can never run is refused, and does not wait for ever.
EnforcePartLimits=ALL
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MinJobAge=3600
ReturnToService=2
# The node has what is said below, whatever the machine has.
SlurmdParameters=config_overrides
KillWait=2
SlurmctldTimeout=30
SlurmdTimeout=30
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres={gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """The running cluster.

    folder: its configuration and logs. environment: what a process needs to talk to it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        }

    def call(self, *command: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def jobs(self, *states: str) -> dict[str, str]:
        """{id: rule and wildcards} of the jobs in these states, of all that ever were by default.

        The plugin writes rule and wildcards into a job's comment.
        """
        asked = f"--states={','.join(states) or 'all'}"
        told = self.call("squeue", "--noheader", asked, "--format=%i|%k")
        return dict(line.split("|") for line in told.splitlines())

    def states(self) -> dict[str, str]:
        """{id: state} of all jobs that ever were."""
        told = self.call("squeue", "--noheader", "--states=all", "--format=%i|%T")
        return dict(line.split("|") for line in told.splitlines())


def missing() -> list[str]:
    """The commands that this machine lacks."""
    return [command for command in COMMANDS if not shutil.which(command, path=_path())]


@contextmanager
def cluster(cpus: int = 2, memory_mb: int = 1_000_000) -> Iterator[Cluster]:
    """Start a cluster of one node, yield it when it takes jobs, and stop it, whatever happened.

    cpus, memory_mb: what the node pretends to have. A job is held to what it asked for.
    """
    # munged demands that others may pass through the folder of its socket, which pytest's forbid.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    daemons: list[subprocess.Popen] = []
    try:
        _configure(folder, cpus, memory_mb)
        found = Cluster(folder)
        daemons.append(
            _start(
                folder,
                "munged",
                *("--foreground", "--num-threads=2", f"--key-file={folder}/munge.key"),
                *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"),
                *(f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"),
            )
        )
        _wait(folder, daemons, (folder / "munge.socket").exists, "munged's socket")
        daemons.append(_start(folder, "slurmctld", "-D"))
        daemons.append(_start(folder, "slurmd", "-D"))
        _wait(folder, daemons, lambda: "idle" in _told(found, "sinfo", "-h", "-o", "%t"), "a node")
        yield found
    finally:
        _stop(Cluster(folder), daemons)
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, cpus: int, memory_mb: int) -> None:
    settings = {
        "folder": folder,
        "host": socket.gethostname().split(".")[0],
        "user": getpass.getuser(),
        "controller_port": _free_port(),
        "node_port": _free_port(),
        "watched": WATCHED_EVERY,
        "cpus": cpus,
        "memory_mb": memory_mb,
        "gpus": f"gpu:{GPU}:4",
    }
    (folder / "slurm.conf").write_text(CONFIG.format(**settings))
    (folder / "gres.conf").write_text(f"Name=gpu Type={GPU} File={folder}/gpu[0-3]\n")
    for number in range(4):
        (folder / f"gpu{number}").touch()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    # The plugin calls srun without any of Slurm's variables: on a cluster the file is in its place.
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)


def _start(folder: Path, command: str, *arguments: str) -> subprocess.Popen:
    with (folder / f"{command}.out").open("wb") as output:
        return subprocess.Popen(
            [shutil.which(command, path=_path()), *arguments],
            env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    """Let a daemon end with these tests, even if they are killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _stop(found: Cluster, daemons: list[subprocess.Popen]) -> None:
    """End the jobs, then the daemons, the last started first."""
    if len(daemons) == 3:
        _told(found, "scancel", f"--user={getpass.getuser()}")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and _told(found, "squeue", "--noheader"):
            time.sleep(0.2)
    for daemon in reversed(daemons):
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    # Without cgroups a cancelled job may leave a process behind, known by the folder it was given.
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            process = int(environment.parent.name)
            if process != os.getpid() and f"{found.folder}/".encode() in environment.read_bytes():
                os.kill(process, signal.SIGKILL)


def _told(found: Cluster, *command: str) -> str:
    """What a command prints; nothing where it fails, as it does before the daemons are up."""
    try:
        done = subprocess.run(
            command, env=found.environment, capture_output=True, text=True, check=False, timeout=30
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _wait(folder: Path, daemons: list[subprocess.Popen], ready, what: str) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        ended = [daemon.args[0] for daemon in daemons if daemon.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = [f"{path}:\n{path.read_text()[-3000:]}" for path in _logs(folder)]
            raise RuntimeError(f"no {what} (ended: {ended or 'none'})\n" + "\n".join(logs))
        time.sleep(0.2)


def _logs(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.log"), *folder.glob("*.out")])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _path() -> str:
    """The search path, and where Debian keeps daemons."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
