# llm-figures: five interpretability figures of a causal language model, each a target of its own.
#
#   snakemake figures                     all five (the default)
#   snakemake scale_qkv                   one of them, and what it needs
#   snakemake figures --config model=…    another model, beside the first
#   snakemake claims                      what was published about them, statement by statement
#   snakemake choices                     which open choice reproduces the most of it
#   snakemake probe_presets               the probe by our protocol and by the published one
#   snakemake compare                     the run's models (and result_folders) side by side
#   snakemake finetune_demo --configfile config/finetune-demo.yaml
#                                         a model before and after it is taught some facts
#   snakemake plan                        what would run, and its memory, disk and time
#   snakemake verify                      whether every file is as the manifest says
#   snakemake report                      figures, claims and provenance on one page
#   snakemake bundle                      what the figures are drawn from, as one archive
#   snakemake figures --config bundle=…   the figures drawn from such an archive, without a model
#
# The flow is one way:
#   questions ─→ answers ─→ hidden states ─→ probe scores ─→ probe_auc
#   texts ─→ queries and keys ─→ attention cells ─→ mean_qkv, mean_qkv_tokens, scale_qkv
#   texts ─→ module activity ─→ module scores ─→ module_map
# Everything made lies in results/{model}/, listed in its manifest.json.

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


configfile: Path(workflow.basedir) / "config" / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/render.smk"


if BUNDLE:

    include: "workflow/rules/redraw.smk"

else:

    include: "workflow/rules/models.smk"
    include: "workflow/rules/forward.smk"
    include: "workflow/rules/ablation.smk"
    include: "workflow/rules/probe.smk"
    include: "workflow/rules/modules.smk"
    include: "workflow/rules/claims.smk"
    include: "workflow/rules/report.smk"
    include: "workflow/rules/compare.smk"
    include: "workflow/rules/bundle.smk"
    include: "workflow/rules/plan.smk"


rule figures:
    default_target: True
    input:
        some_model,
        [picture(figure) for figure in [*FIGURES, "probe_curves"]],
        of_models("redraw.json" if BUNDLE else "manifest.json"),
    localrule: True


rule mean_qkv:
    input:
        some_model,
        picture("mean_qkv"),
    localrule: True


rule mean_qkv_tokens:
    input:
        some_model,
        picture("mean_qkv_tokens"),
    localrule: True


rule scale_qkv:
    input:
        some_model,
        picture("scale_qkv"),
    localrule: True


rule probe_auc:
    input:
        some_model,
        picture("probe_auc"),
        picture("probe_curves"),
    localrule: True


rule probe_presets:
    input:
        some_model,
        picture("probe_presets"),
    localrule: True


rule module_map:
    input:
        some_model,
        picture("module_map"),
    localrule: True


rule claims:
    input:
        some_model,
        of_models("claims.parquet", "claims.md", *(["claims/guarded.txt"] if GUARDED else [])),
    localrule: True


rule choices:
    input:
        some_model,
        picture("choices"),
        of_models("choices.md"),
    localrule: True


rule compare:
    input:
        comparisons,
    localrule: True


rule finetune_demo:
    input:
        training_shown,
    localrule: True


rule report:
    input:
        some_model,
        of_models("report.html"),
    localrule: True


rule bundle:
    input:
        archives(),
    localrule: True
