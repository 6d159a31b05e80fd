"""Environment variables of every job: settings that libraries read once, as they are loaded."""

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
