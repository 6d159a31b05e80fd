# What the rules of plotting.smk take as inputs and params.

# Other versions of these libraries may draw other figures, so figures depend on them.
LIBRARIES = drawing_versions()
# What figures read besides, or instead of, their own section of the config.
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
    """The options that the drawing of a figure reads."""
    figure, model = wildcards.figure, wildcards.model
    if figure.startswith("module_map"):
        return options_of_map(figure, model)
    own = DRAWING_OPTIONS.get(figure, lambda figure, model: config["figures"][figure])
    return own(figure, model)


def options_of_map(figure, model):
    """The options that the drawing of a module map reads."""
    maps = maps_of_model(model)
    if figure not in maps:
        sys.exit(
            f"{figure}: config: figures.module_map.metric does not include it; available: "
            f"{', '.join(maps)}"
        )
    return drawing_options(config["figures"]["module_map"], maps[figure])


def code_of_drawing(wildcards):
    """Digests of the code that draws this figure, without that of every figure."""
    common = code("render_figure")
    digests = code("render_figure", find_source(wildcards.figure).module)
    return [digest for digest in digests if digest not in common]


def shown_name(wildcards):
    """The model's name in captions; the folder of an archive is named after its file instead."""
    return BUNDLE.model if BUNDLE else wildcards.model
