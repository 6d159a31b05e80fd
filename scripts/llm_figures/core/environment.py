"""Every environment variable that the project sets or reads.

What the user has set stays: `os.environ.update(SETTINGS | os.environ)`. Most libraries read theirs
once, as they are loaded, so this comes before their import.
"""

import os
from pathlib import Path

# Of every job, from its start.
JOB_ENVIRONMENT = {
    # SciPy's BLAS keeps its threads awake for a while after each call, and torch's wait for the
    # cores that long: a job that calls the two in turn took twice the time.
    "OPENBLAS_THREAD_TIMEOUT": "20",  # 2^20 cycles, less than a millisecond
    # glibc hands the memory of a large tensor back to the system with each operator's end, and the
    # next one's is cleared anew: an eighth of a pass over 2,048 tokens. Up to these sizes it keeps
    # what is free. Other C libraries do not know the names.
    "MALLOC_MMAP_THRESHOLD_": str(64 * 2**20),  # bytes; a larger one still goes back at once
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),  # bytes of free memory at the heap's end
}

# Before torch is imported: matrix products repeat to the bit.
REPEATABLE = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # on CUDA, only with a fixed workspace
    "MKL_CBWR": "AUTO,STRICT",  # on the CPU, whatever the number of threads
}

# Before transformers is imported: weights and tokenizer are on disk by now, and a job on a node
# without network must not look further.
OFFLINE = {"HF_HUB_OFFLINE": "1"}

# A bar that is redrawn in place does not belong in a log.
NO_PROGRESS_BARS = {"TQDM_DISABLE": "1"}


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/llm-figures, by default ~/.cache/llm-figures."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llm-figures"
