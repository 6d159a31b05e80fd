"""Columns of answers that summarise the log-probabilities of their tokens."""

# Ends of their names: the mean, the sum, the least, the greatest and the last.
SUFFIXES = ("", "_sum", "_min", "_max", "_last")
# {beginning of their names: which tokens of the answer}
PARTS = {"answer": "the answer", "exact_answer": "the exact answer"}
LOG_PROBABILITIES = tuple(
    f"{part}_log_probability{suffix}" for part in PARTS for suffix in SUFFIXES
)
