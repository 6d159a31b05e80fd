"""Checks of a model that was loaded: every tensor has its place, and all numbers are finite."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from llm_figures.core.errors import UserError
from llm_figures.models.decoders import decoder_layers
from llm_figures.models.safetensors_files import read_index, weight_files
from llm_figures.models.tensor_names import HARMLESS, OTHER_TOWER

# Parts of further blocks that predict tokens beyond the next; the model's own have none of them.
PREDICTION = re.compile(
    r"(^|\.)(eh_proj|enorm|hnorm|shared_head|embed_tokens|nextn\w*|mtp\w*)(\.|$)"
)


def check_names(
    model: PreTrainedModel, report: dict, where: str, needs_head: bool, owner: str = "config.json"
) -> None:
    """Check that every weight of a model came from its files, and every weight in them was used.

    report: the loading info of from_pretrained, which fills missing weights with random numbers and
        drops others.
    needs_head: whether the output embeddings are needed. Without them they may be missing, as in
        reward models and bare decoders; they are then NaN, so that nothing can follow from them.
    owner: what the files do not fit, for messages.

    Raises:
        UserError: tensors that are missing or of another shape; tensors without a place, or of
            layers beyond those of the config.
    """
    mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    absent = sorted({*report["missing_keys"], *mismatched})
    if absent and set(absent) <= (head := _head_names(model)) and not mismatched:
        if needs_head:
            raise UserError(
                f"{where} have no output embeddings ({absent[0]}), as those of a reward model or a "
                "bare decoder; attention figures and hidden states work without, answers and "
                "ablations need those of a causal language model"
            )
        for name, weights in model.named_parameters():
            if name in head:
                torch.nn.init.constant_(weights, torch.nan)
    elif absent:
        raise UserError(
            f"{where} do not fit {owner}: {len(absent)} tensor(s) missing or of another shape, for "
            f"example {absent[0]}"
        )
    if further := find_further_layers(model, report["unexpected_keys"]):
        raise UserError(
            f"{where} do not fit {owner}: it says {len(decoder_layers(model))} layers, but they "
            f"hold more, for example {further[0]}, which would be ignored; correct the number of "
            "layers, or download the folder again"
        )
    if unused := find_unused(model, report["unexpected_keys"]):
        raise UserError(
            f"{where} do not fit {owner}: {len(unused)} tensor(s) have no place in "
            f"{type(model).__name__} and would be ignored, for example {unused[0]}; they belong to "
            "another architecture, or to an adapter that is to be merged"
        )


def find_unused(model: PreTrainedModel, unexpected: Iterable[str]) -> list[str]:
    """Of the tensors that a model has no place for, those that would change what it computes.

    They are tensors inside the decoder's blocks, and further parameters of modules that the model
    has, such as a bias of the last norm. Harmless are other towers and heads, blocks beyond the
    model's own (for the prediction of further tokens) and buffers of earlier versions.
    """
    number_of = _block_numbers(model)
    own = {name.rsplit(".", 1)[0] for name, _ in model.named_parameters()}
    short = {name.removeprefix(f"{model.base_model_prefix}.") for name in own}

    def matters(name: str) -> bool:
        if HARMLESS.search(name):
            return False
        if (number := number_of(name)) is not None:
            return number < len(decoder_layers(model))
        return name.rpartition(".")[0] in own | short and not OTHER_TOWER.search(name)

    return sorted(filter(matters, unexpected))


def find_further_layers(model: PreTrainedModel, unexpected: Iterable[str]) -> list[str]:
    """Of the tensors that a model has no place for, those of layers that its config leaves out.

    They are in blocks beyond the model's own, without a part for the prediction of further tokens.
    """
    number_of = _block_numbers(model)
    further: dict[int, list[str]] = {}
    for name in unexpected:
        number = number_of(name)
        beyond = number is not None and number >= len(decoder_layers(model))
        if beyond and not HARMLESS.search(name):
            further.setdefault(number, []).append(name)
    return sorted(
        name
        for names in further.values()
        if not any(map(PREDICTION.search, names))
        for name in names
    )


def _block_numbers(model: PreTrainedModel) -> Callable[[str], int | None]:
    """A function from a tensor's name to the number of the decoder's block that it is in."""
    layers = decoder_layers(model)
    path = next(name for name, module in model.named_modules() if module is layers)
    *before, last = path.split(".")
    inside = re.compile(rf"((?:[^.]+\.)*?){re.escape(last)}\.(\d+)\.")

    def number_of(name: str) -> int | None:
        block = inside.match(name)
        if block and {*block[1].split(".")} <= {*before, "", "model", "language_model"}:
            return int(block[2])
        return None

    return number_of


def check_finite_weights(model: PreTrainedModel, folder: Path, without: Iterable[str] = ()) -> None:
    """Check that all weights of a model are finite numbers, in one pass over them.

    folder: of its files, in which a number that is not finite is sought, if there is one.
    without: names of weights that may hold anything.

    Raises:
        UserError: names the tensor; if it is finite in its file, says that the dtype is too narrow.
    """
    skipped = set(without)
    for name, weights in model.state_dict().items():
        if name in skipped or is_finite(weights):
            continue
        kind = str(weights.dtype).split(".")[-1]
        stored = _find_not_finite(folder)
        if stored is None and weights.dtype in (torch.float16, torch.bfloat16):
            raise UserError(
                f"the weights in {folder} do not fit in {kind}: {name} overflows; set dtype: "
                "float32, or bfloat16"
            )
        raise UserError(
            f"the weights in {folder} hold NaN or infinite numbers, for example in "
            f"{stored or name}; download them again, or choose another checkpoint"
        )


def is_finite(weights: torch.Tensor) -> bool:
    """Whether all numbers of a tensor are finite."""
    if not weights.is_floating_point() or weights.is_meta or not weights.numel():
        return True
    if weights.element_size() == 1:  # 8-bit types have no comparisons
        weights = weights.float()
    # the extremes are NaN if any number is; unlike isfinite they need no copies of the tensor
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(weights.detach()))


def _find_not_finite(folder: Path) -> str | None:
    """The name of a tensor in a folder's files that holds a number that is not finite."""
    for file in weight_files(folder, read_index(folder, str(folder))):
        if file.is_file():
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict: it cannot be iterated)
                    if not is_finite(opened.get_tensor(name)):
                        return name
    return None


def missing_head(model: PreTrainedModel, report: dict) -> set[str]:
    """The names of the output embeddings, if no file holds them."""
    return _head_names(model) & set(report["missing_keys"])


def _head_names(model: PreTrainedModel) -> set[str]:
    head = model.get_output_embeddings()
    if head is None:
        return set()
    inputs = {id(weights) for weights in model.get_input_embeddings().parameters()}
    own = {id(weights) for weights in head.parameters()} - inputs
    return {name for name, weights in model.named_parameters() if id(weights) in own}
