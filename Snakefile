# `snakemake figures` from the clone; the workflow itself is workflow/Snakefile.
include: "workflow/Snakefile"
