"""Every family of causal language models: is its attention shown truly, or refused by name?

    python benchmarks/family_table.py [MODEL_TYPE …]

Each family is a tiny random model of its real class (tests/families.py).
"""

import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import families  # noqa: E402
import tiny  # noqa: E402
from llm_figures.attention.capture import (  # noqa: E402
    build_layer_states,
    build_state_rows,
    capture_attention,
)
from llm_figures.attention.qk_store import read_layer_states  # noqa: E402
from llm_figures.core.errors import UserError  # noqa: E402
from llm_figures.core.parquet_tensors import read_table, tensor_file  # noqa: E402
from llm_figures.models.architectures import check_architecture  # noqa: E402
from llm_figures.models.decoders import decoder, decoder_layers  # noqa: E402
from llm_figures.models.projections import find_projections  # noqa: E402

TOKENS = 80
KNOWN = {"scaling", "sliding_window", "softcap", "s_aux", "dropout"}


@dataclass
class Layer:
    deviation: float = float("nan")
    mask: str = ""
    shape: str = ""
    unknown: set = field(default_factory=set)
    error: str = ""
    rotation: str = ""


@dataclass
class Finding:
    family: str
    refusal: str = ""
    error: str = ""
    layers: int = 0
    found: dict = field(default_factory=dict)
    returned: str = ""
    eager_gap: float = float("nan")
    sharpest: float = 0.0
    projections: str = ""
    seconds: float = 0.0


def ids():
    return torch.randint(5, 380, (1, TOKENS), generator=torch.Generator().manual_seed(3))


def one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:180]}"


def describe_mask(mask, sliding, tokens):
    if mask is None:
        return "none"
    visible = (mask if mask.dtype == torch.bool else mask > -1e4)[0].reshape(-1, *mask.shape[-2:])
    alike = bool((visible == visible[:1]).all())
    other = ""
    if mask.dtype != torch.bool:
        inside = mask[0].reshape(-1, *mask.shape[-2:])[visible]
        if inside.numel() and inside.abs().max() > 0:
            other = "+values"
    if not alike:
        return f"per head{other}"
    one = visible[0]
    if one.shape != (tokens, tokens):
        return f"{tuple(one.shape)}{other}"
    causal = torch.ones_like(one).tril()
    if torch.equal(one, causal):
        return f"causal{other}"
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    for window in range(1, tokens):
        if torch.equal(one, causal & (distance < window)):
            return f"window {window}{other}" + ("" if sliding == window else " (not told)")
    for chunk in range(1, tokens):
        index = torch.arange(tokens) // chunk
        if torch.equal(one, causal & (index[:, None] == index)):
            return f"chunk {chunk}{other}"
    if (one & ~causal).any():
        return f"sees later tokens{other}"
    return f"data/blocks{other}"


@contextmanager
def probed(model, found):
    """Attention as eager computes it, each call noted: {layer: [(weights, mask, …)]}."""

    def attend(module, query, key, value, attention_mask, **options):
        mask = attention_mask
        attend_eagerly = sys.modules[type(module).__module__].eager_attention_forward
        output, weights = attend_eagerly(module, query, key, value, mask, **options)
        note = Layer(
            mask=describe_mask(mask, options.get("sliding_window"), query.shape[2]),
            shape=f"q{tuple(query.shape[1:])} k{tuple(key.shape[1:])} v{tuple(value.shape[1:])}",
            unknown={
                f"{name}={tuple(value.shape) if isinstance(value, torch.Tensor) else value!r:.40}"
                for name, value in options.items()
                if name not in KNOWN and value is not None
            },
        )
        layer = getattr(module, "layer_idx", None)
        found.setdefault(layer, []).append((type(module).__name__, note, weights))
        return output, weights

    AttentionInterface.register("family_probe", attend)
    AttentionMaskInterface.register("family_probe", eager_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation("family_probe")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.inference_mode()
def measure(family):
    start = time.monotonic()
    finding = Finding(family)
    try:
        config = families.tiny_config(family)
        check_architecture(config, "x")
    except UserError as error:
        finding.refusal = str(error).removeprefix(f"x: models of type {config.model_type} ")
    except Exception as error:
        finding.error = f"config: {one_line(error)}"
        return finding
    try:
        model = families.tiny_model(family)
    except Exception as error:
        finding.error = f"build: {one_line(error)}"
        return finding
    try:
        finding.layers = len(decoder_layers(model))
    except Exception as error:
        finding.error = f"layers: {one_line(error)}"
    try:
        finding.projections = "yes" if find_projections(model) else "none"
    except Exception as error:
        finding.projections = "no" if isinstance(error, UserError) else one_line(error)[:60]
    run = decoder(model)
    calls = {}
    try:
        with probed(model, calls):
            run(input_ids=ids(), use_cache=False)
    except Exception as error:
        finding.error += f" probe: {one_line(error)}"
    eager = {}
    try:
        model.set_attn_implementation("eager")
        eager = eager_weights(model, run, calls, finding)
    except Exception as error:
        finding.error += f" eager: {one_line(error)}"
    try:
        model.set_attn_implementation("sdpa")
    except Exception:
        model.set_attn_implementation("eager")
    numbered = sorted(layer for layer in calls if layer is not None)
    try:
        stored = stored_states(model, numbered)
    except Exception as error:
        stored = {}
        finding.error += f" stored: {one_line(error)}"
    for layer, notes in sorted(calls.items(), key=lambda item: str(item[0])):
        _, note, weights = notes[-1]
        if len(notes) > 1:
            note.unknown.add(f"called {len(notes)} times: {[n for n, *_ in notes]}")
        finding.found[layer] = note
        reference = eager.get(layer, weights)
        if reference is None:
            note.error = "eager returns no weights"
            continue
        try:
            states = stored.get(layer)
            if states is None:
                captured = capture_attention(model, ids()[0].tolist(), [layer])
                states = build_layer_states(1, layer, captured[layer])
            else:
                note.rotation = "known" if states.rotated else "none seen"
            maps = states.compute_weights()
            note.deviation = float(np.abs(maps - reference[0].numpy()).max())
            flat = np.abs(maps[:, -1] - 1 / TOKENS).max()
            finding.sharpest = max(flat, finding.sharpest)
        except Exception as error:
            note.error = one_line(error)
    finding.seconds = time.monotonic() - start
    return finding


def stored_states(model, layers):
    """The states of these layers, captured with their rotation, written to a file and read."""
    sequence = ids()[0].tolist()
    captured = capture_attention(model, sequence, layers, rotation=True)
    schema, rows = build_state_rows(tiny.tokenizer(), 1, sequence, captured, TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        with tensor_file(Path(folder) / "states.parquet", schema) as file:
            file.write(rows)
        found = read_layer_states(read_table(Path(folder) / "states.parquet"))
    return {states.layer: states for _, states in found}


def eager_weights(model, run, calls, finding):
    """{layer: weights} as the model itself returns them, where it returns one per call."""
    found = run(input_ids=ids(), use_cache=False, output_attentions=True)
    found = getattr(found, "attentions", None)
    if not found:
        finding.returned = "no"
        return {}
    kept = [one for one in found if one is not None and getattr(one, "ndim", 0) == 4]
    finding.returned = f"{len(kept)} of {finding.layers}"
    numbered = sorted(layer for layer in calls if layer is not None)
    if len(kept) != len(numbered):
        return {}
    eager = dict(zip(numbered, kept, strict=True))
    gaps = [
        float((eager[layer] - calls[layer][-1][2]).abs().max())
        for layer in numbered
        if calls[layer][-1][2] is not None and calls[layer][-1][2].shape == eager[layer].shape
    ]
    finding.eager_gap = max(gaps, default=float("nan"))
    return eager


def line(finding):
    devs = [one.deviation for one in finding.found.values() if one.deviation == one.deviation]
    deviation = f"{max(devs):.1e}" if devs else "–"
    errors = sorted({one.error for one in finding.found.values() if one.error})
    error = "; ".join(filter(None, [finding.error, *errors]))
    true = devs and max(devs) < 1e-4 and not error
    verdict = "refused" if finding.refusal else ("ok" if true else "WRONG")
    numbered = {layer for layer in finding.found if layer is not None}
    without = [n for n in range(finding.layers) if n not in numbered]
    masks = sorted({one.mask for one in finding.found.values()})
    unknown = sorted(set().union(*(one.unknown for one in finding.found.values()), set()))
    shapes = sorted({one.shape for one in finding.found.values()})
    rotations = sorted({one.rotation for one in finding.found.values() if one.rotation})
    return [
        finding.family,
        verdict,
        deviation,
        f"{finding.layers}",
        ",".join(map(str, without)),
        "; ".join(masks),
        "; ".join(unknown),
        "; ".join(shapes) if len(shapes) > 1 else "",
        finding.returned,
        f"{finding.eager_gap:.0e}" if finding.eager_gap > 1e-6 else "",
        "; ".join(rotations),
        f"{finding.sharpest:.2f}",
        finding.projections,
        finding.refusal or "",
        error,
    ]


HEAD = [
    "family", "verdict", "deviation", "layers", "no attention", "masks (of eager)",
    "arguments unknown", "shapes that differ", "eager returns", "eager ≠ probe", "rotation",
    "sharpest", "module map", "refused because", "error",
]  # fmt: skip


def main(names):
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rows = [HEAD, ["---"] * len(HEAD)]
    for family in names or families.list_families():
        try:
            finding = measure(family)
        except Exception as error:
            traceback.print_exc()
            finding = Finding(family, error=one_line(error))
        rows.append(line(finding))
        print("| " + " | ".join(cell.replace("|", "/") for cell in rows[-1]) + " |", flush=True)
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
