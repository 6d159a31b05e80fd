"""Questions and the model's answers: built-in facts, files, exact answers, correctness."""
