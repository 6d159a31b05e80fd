"""Whether an exact answer is right: rules that compare it with the gold answers."""
