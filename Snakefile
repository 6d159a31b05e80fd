# The workflow is workflow/Snakefile; this file lets a plain `snakemake` find it from the clone.


include: "workflow/Snakefile"


# an include sets no default target
workflow.default_target = "figures"
