# What the rules of plotting.smk take as inputs and params.

# Drawn with other versions of the libraries figures could look otherwise, so these count.
LIBRARIES = drawing_versions()
# What is read beside a figure's own section of the config, or in its place.
DRAWING_OPTIONS = {
    **dict.fromkeys(
        ("probe_auc", "probe_curves"),
        lambda figure, model: config["figures"][figure]
        | {"protocol": PROTOCOLS["scores"]["protocol"]},
    ),
    "probe_presets": lambda figure, model: {
        **{key: config["figures"]["probe_auc"][key] for key in ("metric", "palette", "limits")},
        "protocols": {name: PROTOCOLS[name]["protocol"] for name in ("strict", "published")},
    },
    "choices": lambda figure, model: {"palette": config["choices"]["palette"]},
}


def options_of_figure(wildcards):
    """What the drawing of one figure reads."""
    figure, model = wildcards.figure, wildcards.model
    if figure.startswith("module_map"):
        return options_of_map(figure, model)
    own = DRAWING_OPTIONS.get(figure, lambda figure, model: config["figures"][figure])
    return own(figure, model)


def options_of_map(figure, model):
    """What the drawing of one module map reads."""
    maps = maps_of_model(model)
    if figure not in maps:
        sys.exit(
            f"{figure}: config: figures.module_map.metric does not ask for it; there is "
            f"{', '.join(maps)}"
        )
    return drawing_options(config["figures"]["module_map"], maps[figure])


def code_of_drawing(wildcards):
    """Digests of the code that draws a figure, without what all figures have in common."""
    shared = code("render_figure")
    every = code("render_figure", find_source(wildcards.figure).module)
    return [digest for digest in every if digest not in shared]


def shown_name(wildcards):
    """What captions call the model; the folder of an archive's is named after its file."""
    return BUNDLE.model if BUNDLE else wildcards.model
