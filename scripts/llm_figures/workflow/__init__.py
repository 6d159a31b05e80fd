"""What the Snakefile reads: options, resources, the plan, digests of the code."""
