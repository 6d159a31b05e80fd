"""Options of the figure over checkpoints."""

from typing import Annotated, Literal

from pydantic import Field

from llm_figures.core.options import (
    AnyText,
    Drawing,
    Integer,
    Items,
    Number,
    Options,
    Says,
)
from llm_figures.core.text_checks import PathText
from llm_figures.models.options import ModelName
from llm_figures.plotting.style import LinePalette

Label = Annotated[
    AnyText,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
    Says("a name of letters, digits, dots, hyphens and underscores"),
]
Commit = Annotated[AnyText, Field(pattern=r"^[0-9a-f]{40}$"), Says("the 40 hex digits of a commit")]


class CheckpointsList(Options):
    """Which checkpoints there are: one of `revisions`, `folders`, `steps` and `models`."""

    model: ModelName | None = None
    """The model that they are of, a key of config/models.yaml

    The model that the revisions, folders or steps are of: a key of config/models.yaml or of
    model_sources. Results are in results/{model}@{label}/. Folders need none; their results are in
    results/{name of the folder}/."""

    revisions: dict[Label, Commit] | None = None
    """Of a model of the hub: {step1000: its commit, …}

    Commits of a model of the hub by label: {step1000: 40 hex digits}. A branch may move, so its
    commit is named beside it."""

    folders: Annotated[tuple[PathText, ...], Items(2, distinct=True)] | None = None
    """Transformers folders of a training run: [run/step-500, run/step-1000]

    Transformers folders that a training run left, in the order of training. Each is labelled with
    its own name."""

    steps: (
        Annotated[tuple[Annotated[Integer, Field(ge=0)], ...], Items(2, distinct=True)] | None
    ) = None
    """Of a model that is fine-tuned here: the steps to save; 0 is its base

    Steps of a model of `source: finetune` after which it is saved, in rising order; 0 is its base.
    The training goes on from one to the next."""

    models: Annotated[tuple[ModelName, ...], Items(2, distinct=True)] | None = None
    """Models of growing size: [pythia-70m, pythia-160m]

    Keys of config/models.yaml or of model_sources, such as models of growing size."""

    x: Annotated[tuple[Number, ...], Items(2, distinct=True)] | None = None
    """The place of each on the axis; null takes the number in its label

    The place of every checkpoint on the axis, in their order. null takes the last number in each
    label, and for `models` the number of parameters."""


class CheckpointsDrawing(Drawing):
    """What only the drawing of the figure reads."""

    scale: Literal["auto", "linear", "log"] = "auto"
    """auto, linear, log: of the axis

    Scale of the axis. auto is log where the largest place is more than 30 times the smallest that
    is above zero. On a log axis, zero has a place of its own at the left."""

    x_label: AnyText | None = None
    """null: step, or parameters for models

    Label of the axis. null is `step`, and `parameters` for models."""

    palette: LinePalette = "colorblind"
    """Colours of the lines."""


class Checkpoints(CheckpointsDrawing, CheckpointsList):
    """Checkpoints of one training run, or models of growing size, in place of model and models.

    Every target then serves each, and `snakemake over_checkpoints` draws the figures' key numbers
    as curves over them.
    """
