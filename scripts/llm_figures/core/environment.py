"""Every environment variable that the project sets or reads.

`os.environ.update(SETTINGS | os.environ)` keeps what the user has set. Most libraries read their
variables once, on import, so it must come before that.
"""

import os
from pathlib import Path

# For every job, from its start.
JOB_ENVIRONMENT = {
    # SciPy's BLAS keeps its threads busy for a while after each call, and torch's threads wait for
    # the cores: a job that calls both in turn took twice the time.
    "OPENBLAS_THREAD_TIMEOUT": "20",  # 2^20 cycles, less than a millisecond
    # Between two operators torch's threads wait for work in a loop, by default for 300,000 turns, 8
    # ms on an AMD EPYC. Where another program holds the core of one thread, the others wait so long
    # at every operator: passes over short texts took two to five times as long. After these turns
    # they sleep.
    "GOMP_SPINCOUNT": "10000",  # a quarter of a millisecond
    # glibc returns the memory of a large tensor to the system after each operator, and the system
    # clears it for the next one: an eighth of a pass over 2,048 tokens. Below these sizes glibc
    # keeps free memory. Other C libraries ignore the variables.
    "MALLOC_MMAP_THRESHOLD_": str(64 * 2**20),  # bytes; larger blocks are returned at once
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),  # bytes of free memory at the end of the heap
}

# Before torch is imported: matrix products are reproducible to the bit.
REPEATABLE = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # on CUDA, with a fixed workspace
    "MKL_CBWR": "AUTO,STRICT",  # on the CPU, whatever the number of threads
}

# Before transformers is imported: weights and tokenizer are on disk by then, and a node may have no
# network.
OFFLINE = {"HF_HUB_OFFLINE": "1"}


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/llm-figures, by default ~/.cache/llm-figures."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llm-figures"
