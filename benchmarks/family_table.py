"""Which families are shown, how truly, and which are refused and why, for docs/models.md.

    .venv/bin/python benchmarks/family_table.py                 # the table, on standard output
    .venv/bin/python benchmarks/family_table.py llama doge      # of these model types
    .venv/bin/python benchmarks/family_table.py --write         # into docs/models.md

Each family is a tiny random model of its real class (tests/families.py), taken the way of a run:
checked by its config, proved, its states captured, written to a file and read back. The maps of
these states are compared with what the model itself returns as `output_attentions`.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import families  # noqa: E402
import tiny  # noqa: E402
from llm_figures.attention.capture import build_state_rows, capture_attention  # noqa: E402
from llm_figures.attention.maps import LayerStates  # noqa: E402
from llm_figures.attention.proof import prove_attention  # noqa: E402
from llm_figures.attention.qk_store import read_layer_states  # noqa: E402
from llm_figures.core.errors import UserError  # noqa: E402
from llm_figures.core.markdown import table_row  # noqa: E402
from llm_figures.core.parquet_tensors import read_table, tensor_file  # noqa: E402
from llm_figures.models.architectures import check_architecture  # noqa: E402
from llm_figures.models.decoders import decoder, decoder_layers, find_attentions  # noqa: E402
from llm_figures.models.projections import find_projections  # noqa: E402

PAGE = ROOT / "docs/models.md"
BEGIN, END = "<!-- families: begin -->\n", "<!-- families: end -->\n"
# Longer than all windows, chunks and blocks of the tiny models, and than some of them together.
TOKENS = 80
HEAD = ["model type", "deviation", "layers with maps", "mask", "`before_rotary`", "module map"]


@dataclass
class Finding:
    """What was found of one family.

    refusal: why it is refused; "" if it is shown. error: what went wrong without being refused.
    deviation: the largest difference of a weight from the model's own, of the proof and of states
        read from a file. layers: of the decoder. masks: of the attention layers. rotated: those
        whose rotation is known. sharpest: how far a weight of the last query is from uniform.
    """

    family: str
    refusal: str = ""
    error: str = ""
    deviation: float = 0.0
    layers: int = 0
    attention_layers: tuple[int, ...] = ()
    masks: set[str] = field(default_factory=set)
    rotated: set[int] = field(default_factory=set)
    sharpest: float = 0.0
    module_map: bool = False


def measure(family: str) -> Finding:
    """What becomes of one family, whatever it raises."""
    finding = Finding(family)
    try:
        _measure(finding)
    except UserError as error:
        finding.refusal = _shorten(str(error))
        if "Error: " in finding.refusal:  # of transformers, where a model is built
            finding.refusal = families.UNBUILT.get(family, "")
            finding.error = "" if finding.refusal else str(error)
    except Exception as error:  # a fault, which the table must show
        finding.error = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return finding


def _measure(finding: Finding) -> None:
    check_architecture(families.tiny_config(finding.family), "tiny")
    measure_model(families.tiny_model(finding.family), finding)


def measure_model(model: PreTrainedModel, finding: Finding) -> None:
    """Note what is found of a model.

    Raises:
        UserError: it is refused.
    """
    proof = prove_attention(model)
    ids = torch.randint(5, 380, (TOKENS,), generator=torch.Generator().manual_seed(3)).tolist()
    states = store_states(model, ids)
    expected = compute_own_weights(model, ids, proof.attention_layers)
    finding.layers = len(decoder_layers(model))
    finding.attention_layers = proof.attention_layers
    finding.deviation = proof.deviation
    for layer, own in expected.items():
        maps = states[layer].compute_weights()
        finding.sharpest = max(finding.sharpest, float(np.abs(maps[:, -1] - 1 / TOKENS).max()))
        if states[layer].sinks is not None:  # which some classes leave out of what they return
            maps, own = (one / one.sum(axis=-1, keepdims=True) for one in (maps, own))
        finding.deviation = max(finding.deviation, float(np.abs(maps - own).max()))
    finding.masks = {_name_mask(one) for one in states.values()}
    finding.rotated = {layer for layer, one in states.items() if one.rotated}
    try:
        finding.module_map = bool(find_projections(model))
    except UserError:
        finding.module_map = False


def store_states(model: PreTrainedModel, ids: Sequence[int]) -> dict[int, LayerStates]:
    """The states of every attention layer, captured, written to a file and read back."""
    captured = capture_attention(model, ids, find_attentions(model), rotation=True)
    schema, rows = build_state_rows(tiny.tokenizer(), 1, ids, captured, longest=len(ids) + 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "states.parquet"
        with tensor_file(path, schema) as file:
            file.write(rows)
        return {states.layer: states for _, states in read_layer_states(read_table(path))}


@torch.inference_mode()
def compute_own_weights(
    model: PreTrainedModel, ids: Sequence[int], layers: Collection[int]
) -> dict[int, np.ndarray]:
    """The weights [heads, tokens, tokens] of `layers` that the model itself returns.

    Raises:
        ValueError: it does not return one for each of these layers.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        output = decoder(model)(
            input_ids=torch.tensor([list(ids)]), use_cache=False, output_attentions=True
        )
    finally:
        model.set_attn_implementation(before)
    returned = [one for one in output.attentions or () if one is not None and one.ndim == 4]
    if len(returned) == len(decoder_layers(model)):  # other layers return something, too
        returned = [returned[layer] for layer in sorted(layers)]
    if len(returned) != len(layers):
        raise ValueError(f"{len(returned)} weights returned for {len(layers)} attention layers")
    return {
        layer: one[0, :, :, : len(ids)].float().numpy()
        for layer, one in zip(sorted(layers), returned, strict=True)
    }


def _name_mask(states: LayerStates) -> str:
    parts = [f"window {states.window}" if states.window else "causal"]
    if states.bias is not None:
        parts = ["its own"]
    if states.sinks is not None:
        parts.append("sinks")
    if states.softcap is not None:
        parts.append("soft cap")
    return " + ".join(parts)


def _shorten(message: str) -> str:
    """A refusal without its beginning, which names the type, and its end, which says what to do."""
    message = re.sub(r"^(tiny: )?models of type \S+?:? ", "", message)
    return message.removesuffix("; choose another model")


def describe(findings: Iterable[Finding]) -> str:
    """The Markdown of the families that are shown, and of those refused, by reason."""
    shown, refused = [], {}
    for one in findings:
        if one.error:
            raise ValueError(f"{one.family}: {one.error}")
        if one.refusal:
            refused.setdefault(one.refusal, []).append(f"`{one.family}`")
        else:
            shown.append(one)
    lines = [f"{len(shown)} types are shown:", "", table_row(HEAD), "|---" * len(HEAD) + "|"]
    lines += [table_row(_describe_shown(one)) for one in shown]
    number = sum(map(len, refused.values()))
    lines += ["", f"{number} types are refused:", "", "| because they | model types |", "|---|---|"]
    by_number = sorted(refused.items(), key=lambda item: (-len(item[1]), item[0]))
    lines += [table_row([reason, ", ".join(names)]) for reason, names in by_number]
    return "\n".join(lines) + "\n"


def _describe_shown(one: Finding) -> list[str]:
    attention = len(one.attention_layers)
    return [
        f"`{one.family}`",
        f"{one.deviation:.0e}".replace("e-0", "e-"),
        "all" if attention == one.layers else f"{attention} of {one.layers}",
        ", ".join(sorted(one.masks)),
        {attention: "yes", 0: "no"}.get(len(one.rotated), f"{len(one.rotated)} of {attention}"),
        "yes" if one.module_map else "no",
    ]


def summarize(one: Finding) -> list[str]:
    """What the page says of a family, but for the digits of its deviation, which vary."""
    return [one.refusal] if one.refusal else _describe_shown(one)[2:]


def read_page(page: Path = PAGE) -> dict[str, list[str]]:
    """{model type: what the page says of it}; see `summarize`."""
    text = page.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == len(HEAD):
            found[cells[0].strip("`")] = cells[2:]
        elif len(cells) == 2:
            found |= {name: [cells[0]] for name in re.findall(r"`([^`]+)`", cells[1])}
    found.pop(HEAD[0])
    return found


def write_page(table: str, page: Path = PAGE) -> None:
    """Put the table between the page's markers."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + BEGIN + table + END + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("types", nargs="*", help="model types; all by default")
    parser.add_argument("--write", action="store_true", help="write docs/models.md")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    findings = []
    for family in options.types or families.list_families():
        findings.append(measure(family))
        print(findings[-1], file=sys.stderr, flush=True)
    table = describe(findings)
    if options.write:
        write_page(table)
    else:
        print(table)


if __name__ == "__main__":
    main()
