"""What the Snakefile needs: the config, resources, the plan, and digests of the code."""
