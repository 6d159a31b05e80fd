"""For notebooks: a folder of results as frames and arrays, and panels on the user's own axes."""

# {name in `llm_figures`: the module that has it}
PUBLIC = {
    "Intervention": "llm_figures.attention.interventions",
    "Results": "llm_figures.notebook.results",
    "UserError": "llm_figures.core.errors",
    "plot_attention_map": "llm_figures.notebook.plots",
    "plot_module_map": "llm_figures.notebook.plots",
    "plot_probe_curve": "llm_figures.notebook.plots",
    "plot_probe_heatmap": "llm_figures.notebook.plots",
}
