"""The module map's measures: the obvious loop over projections and texts, and ours.

Every method writes layer, projection, metric, value of each projection. The loops take a
projection for a linear module of its own, without a bias, which it is in the default model.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from changed import changed_copy
from gguf import GGUFReader
from limit import block_operations, head_operations
from made import SEED, config, load, map_texts, valid_answers
from measuring import measured, note
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from states_methods import forward, locate_positions, whole_sequences
from threadpoolctl import threadpool_limits
from transformers import AutoModelForCausalLM

from llm_figures.core.environment import cache_folder
from llm_figures.core.parquet_tensors import read_columns, read_frame, tensor_file
from llm_figures.models.checkpoints import check_same_architecture, open_checkpoint
from llm_figures.models.loading import decoder_layers
from llm_figures.models.model_info import read_model_info
from llm_figures.models.projections import Projection, find_projections
from llm_figures.modules.ablation import measure_ablation
from llm_figures.modules.activity import measure_activity
from llm_figures.modules.gguf_error import NAMES, GgufFile, open_gguf
from llm_figures.modules.options import Quantization, Update
from llm_figures.modules.probes import score_projections
from llm_figures.modules.schema import build_schema, find_columns
from llm_figures.modules.scores import score_ablation, score_activity
from llm_figures.modules.states import extract_module_states, list_widths
from llm_figures.modules.weight_metrics import compute_update_metrics, quantization_error
from llm_figures.probe.cells import Cell, make_cells
from llm_figures.probe.options import Probe
from llm_figures.probe.protocol import Protocol

ACTIVITY = ("operation_strength", "output_rms", "input_alignment")
UPDATES = ("relative_update", "update_density", "update_effective_rank", "subspace_rotation")
# Kinds of GGUF blocks that begin with their step, a float16, and the bytes of a block of 32.
STEP_FIRST = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34}

Row = tuple[int, str, str, float]


def activity_loop(task: dict) -> None:
    """Whole passes with all inputs and outputs kept, then metric by metric by its formula."""
    model, texts = _model_and_texts(task)

    def work(texts):
        kept = _kept(model, texts)
        rows = []
        for metric in ACTIVITY:
            for projection in find_projections(model):
                inputs, outputs = map(torch.cat, zip(*kept[projection.module], strict=True))
                value = _activity(metric, projection.module.weight, inputs, outputs)
                rows.append((projection.layer, projection.name, metric, value))
        return rows

    _write(task, measured(task, torch.inference_mode()(work), texts, texts[:1], len(texts)))


def activity(task: dict) -> None:
    model, texts = _model_and_texts(task)

    def work(texts):
        return score_activity(measure_activity(model, texts), ACTIVITY)

    _write(task, measured(task, work, texts, texts[:1], len(texts)))


def _kept(model, texts) -> dict[torch.nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Inputs and outputs of every projection, [tokens, features], one pair for every text."""
    kept: dict = {projection.module: [] for projection in find_projections(model)}

    def keep(module, args, output):
        kept[module].append((args[0][0], output[0]))

    with ExitStack() as hooks:
        for module in kept:
            hooks.callback(module.register_forward_hook(keep).remove)
        for text in texts:
            model(torch.tensor([text], device=model.device), use_cache=False)
    return kept


def _activity(metric: str, weight, inputs, outputs) -> float:
    norms = outputs.norm(dim=1)
    if metric == "output_rms":
        return float((norms.square() / len(weight)).mean().sqrt())
    strength = float((norms / (weight.norm() * inputs.norm(dim=1))).mean())
    return strength * weight.shape[1] ** 0.5 if metric == "input_alignment" else strength


def ablation_loop(task: dict) -> None:
    """Means from one pass over each text, then a full pass per projection and text."""
    model, texts = _model_and_texts(task)

    def work(texts):
        return _ablated(model, texts) if texts else []

    with torch.inference_mode():
        model(torch.tensor([texts[0]], device=model.device))  # the first pass loads kernels
    _write(task, measured(task, torch.inference_mode()(work), texts, [], len(texts)))


def ablation(task: dict) -> None:
    model, texts = _model_and_texts(task)

    def work(texts):
        return score_ablation(measure_ablation(model, texts))

    _write(task, measured(task, work, texts, [texts[0][:4]], len(texts)))
    # Each projection needs the blocks from its own on, and the logits; attention's own products
    # are not counted.
    tokens = sum(map(len, texts))
    places = [projection.layer for projection in find_projections(model)]
    whole, layers = block_operations(model, tokens), len(decoder_layers(model))
    blocks = whole * sum(layers - layer for layer in places) / layers
    note(task, operations=blocks + head_operations(model, len(places) * tokens))


def _ablated(model, texts) -> list[Row]:
    kept = _kept(model, texts)
    before = [_log_probabilities(model, text) for text in texts]
    count = sum(map(len, texts))
    predicted = count - len(texts)
    rows = []
    for projection in find_projections(model):
        outputs = torch.cat([output for _, output in kept[projection.module]])
        mean = outputs.double().mean(0).to(outputs.dtype)
        hook = projection.module.register_forward_hook(
            lambda module, args, output, mean=mean: mean.expand_as(output)
        )
        rise = divergence = 0.0
        for text, old in zip(texts, before, strict=True):
            new = _log_probabilities(model, text)
            following = torch.tensor(text[1:], device=new.device)[:, None]
            rise += float((old[:-1].gather(1, following) - new[:-1].gather(1, following)).sum())
            divergence += float((old.exp() * (old - new)).sum())
        hook.remove()
        place = (projection.layer, projection.name)
        rows.append((*place, "ablation_effect", rise / predicted))
        rows.append((*place, "ablation_kl", divergence / count))
    return rows


def _log_probabilities(model, text: Sequence[int]) -> torch.Tensor:
    """[tokens, vocabulary]"""
    ids = torch.tensor([text], device=model.device)
    return model(ids, use_cache=False).logits[0].float().log_softmax(-1)


def probes_loop(task: dict) -> None:
    """One question at a time with hooks on every projection, then sklearn's regression for each
    projection and fold, with one BLAS thread, which suits its solver best.
    """
    model, _ = load(task)
    answers, cell, token, chosen = _probed(task)

    def work(answers):
        states = _named_outputs(model, answers, token)
        if len(answers) < len(cell.labels):
            return []
        with threadpool_limits(1):
            return [
                (p.layer, p.name, "probe_auc", _auc(states[p.module], cell, chosen.C))
                for p in find_projections(model)
            ]

    _write(task, measured(task, work, answers, answers[:1], len(answers)))


def probes(task: dict) -> None:
    """As scripts/extract_module_states.py and score_module_probes.py do it, with the file."""
    model, _ = load(task)
    answers, cell, token, chosen = _probed(task)
    path = Path(task["folder"], "states.parquet")

    def work(answers):
        _module_states_file(task, model, path, answers, token)
        if len(answers) < len(cell.labels):
            return []
        keys = read_frame(path, ["question_id", "token"])
        (own,), (rows,) = make_cells(keys, answers, [token], chosen)
        states = [
            (layer, projection, partial(read_columns, [path], column))
            for column, layer, projection in find_columns(path)
        ]
        return list(score_projections(states, rows, own, chosen, jobs=task["cores"]))

    _start_processes(cell, chosen, task["cores"])
    _write(task, measured(task, work, answers, answers[:1], len(answers)))


def _probed(task: dict) -> tuple[pd.DataFrame, Cell, str, Protocol]:
    """Answers that have the config's token, their labels and folds, the token and the protocol."""
    settings = config(task)
    token = settings["figures"]["module_map"]["probe_token"]
    probe = Probe.model_validate(settings["probe"] | {"preset": "strict"})
    chosen = probe.resolve(hold_out=False).changed(controls=())
    answers = valid_answers(task, task["questions"])
    answers = answers[[token in positions for positions in locate_positions(answers)]]
    keys = pd.DataFrame({"question_id": answers["question_id"].to_numpy(), "token": token})
    (cell,), _ = make_cells(keys, answers, [token], chosen)
    return answers, cell, token, chosen


def _named_outputs(model, answers: pd.DataFrame, token: str) -> dict[torch.nn.Module, np.ndarray]:
    """What every projection gives at the named token, [questions, d_out]."""
    found: dict = {projection.module: [] for projection in find_projections(model)}
    with ExitStack() as hooks:
        at = 0

        def keep(module, args, output):
            found[module].append(np.array(output[0, at].float().cpu()))  # a view would hold all

        for module in found:
            hooks.callback(module.register_forward_hook(keep).remove)
        for ids, positions in zip(whole_sequences(answers), locate_positions(answers), strict=True):
            at = positions[token]
            forward(model, [ids])
    return {module: np.stack(outputs) for module, outputs in found.items()}


def _auc(states: np.ndarray, cell: Cell, C: float | str) -> float:
    """Mean AUC over the folds of a converged fit."""
    penalty = 1 / states.shape[1] if C == "auto" else C
    folds = []
    for split in cell.splits:
        scaler = StandardScaler().fit(states[split.train].astype(np.float64))
        regression = LogisticRegression(C=penalty, tol=1e-8, max_iter=10_000)
        regression.fit(scaler.transform(states[split.train]), cell.labels[split.train])
        scores = regression.decision_function(scaler.transform(states[split.test]))
        # Inputs that are equal but for rounding are to be tied, as they are in ours.
        folds.append(roc_auc_score(cell.labels[split.test], scores.round(6)))
    return float(np.mean(folds))


def _module_states_file(task: dict, model, path: Path, answers: pd.DataFrame, token: str) -> None:
    batches = extract_module_states(
        model,
        answers["question_id"].tolist(),
        [list(ids) for ids in answers["prompt_ids"]],
        [list(ids) for ids in answers["answer_ids"]],
        [{token: positions[token]} for positions in locate_positions(answers)],
        batch_size=config(task)["batch_size"],
    )
    with tensor_file(path, build_schema(list_widths(model))) as file:
        for batch in batches:
            file.write(batch)


def _start_processes(cell: Cell, chosen: Protocol, cores: int) -> None:
    """Fits of noise, so that the processes of the true ones are there."""
    noise = partial(np.random.default_rng(SEED).standard_normal, (len(cell.labels), 8), np.float32)
    rows = np.arange(len(cell.labels))
    list(score_projections([(0, "noise", noise)] * cores, rows, cell, chosen, jobs=cores))


def updates_loop(task: dict) -> None:
    """Both models whole in memory, then singular value decompositions of each matrix."""
    model_info = Path(task["model_info"])
    with changed_copy(model_info, Path(task["folder"], "changed")) as changed:
        both = (find_projections(_whole(task, one)) for one in (model_info, changed))
        pairs = list(zip(*both, strict=True))

        def work(layers):
            return [
                (earlier.layer, earlier.name, metric, value)
                for earlier, later in pairs
                if earlier.layer in layers
                for metric, value in _update(earlier.weight(), later.weight(), task).items()
            ]

        layers = range(task["layers"] or 1 + pairs[-1][0].layer)
        _write(task, measured(task, torch.inference_mode()(work), layers, layers[:1], len(layers)))


def updates(task: dict) -> None:
    """As scripts/measure_updates.py does it; reading the matrices is part of the work."""
    torch.set_num_threads(task["cores"])
    model_info = Path(task["model_info"])
    options = Update(tolerance=task["tolerance"], top_k=task["top_k"])
    with changed_copy(model_info, Path(task["folder"], "changed")) as changed:
        earlier, model = open_checkpoint(model_info), open_checkpoint(changed)
        check_same_architecture(model, earlier)

        def work(layers):
            rows = []
            for layer in layers:
                for name in model.projections(layer):
                    place = (layer, name)
                    pairs = zip(earlier.matrices(*place), model.matrices(*place), strict=True)
                    values = compute_update_metrics(pairs, UPDATES, options)
                    rows += [(*place, metric, value) for metric, value in values.items()]
            return rows

        layers = range(task["layers"] or model.layers)
        _write(task, measured(task, work, layers, layers[:1], len(layers)))


def _update(before: torch.Tensor, after: torch.Tensor, task: dict) -> dict[str, float]:
    change = after - before
    shares = torch.linalg.svdvals(change)
    shares = shares / shares.sum()
    shares = shares[shares > 0]
    (left, _, right), (its_left, _, its_right) = (
        torch.linalg.svd(matrix, full_matrices=False) for matrix in (before, after)
    )
    k = task["top_k"]
    cosines = [
        torch.linalg.svdvals(left[:, :k].T @ its_left[:, :k]),
        torch.linalg.svdvals(right[:k] @ its_right[:k].T),
    ]
    return {
        "relative_update": float(change.norm() / before.norm()),
        "update_density": float((change.abs() > task["tolerance"]).float().mean()),
        "update_effective_rank": float((-(shares * shares.log()).sum()).exp()),
        "subspace_rotation": float(torch.cat(cosines).clamp(max=1).acos().rad2deg().mean()),
    }


def quantization_loop(task: dict) -> None:
    """The model whole in memory, each block of its matrices rounded by itself."""
    model_info = Path(task["model_info"])
    model = _whole(task, model_info)
    projections = find_projections(model)

    def work(projections):
        rows = [(p.layer, p.name, "quantization_error", _rounded(p, task)) for p in projections]
        if _has_steps(model_info):
            with open_gguf(read_model_info(model_info), cache_folder()) as path:
                tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
                rows += [(p.layer, p.name, "gguf_error", _lost(p, tensors)) for p in projections]
        return rows

    work = torch.inference_mode()(work)
    _write(task, measured(task, work, projections, projections[:1], len(projections)))


def quantization(task: dict) -> None:
    """As scripts/measure_quantization.py does it; reading the matrices is part of the work."""
    model_info = Path(task["model_info"])
    model = open_checkpoint(model_info)
    torch.set_num_threads(task["cores"])
    options = Quantization(bits=task["bits"], block_size=task["block_size"])

    def work(places):
        rows = [
            (*place, "quantization_error", quantization_error(model.matrices(*place), options))
            for place in places
        ]
        if _has_steps(model_info):
            with open_gguf(read_model_info(model_info), cache_folder()) as path:
                file = GgufFile(path, model)
                rows += [(*place, "gguf_error", file.expected_error(*place)) for place in places]
        return rows

    places = [(layer, name) for layer in range(model.layers) for name in model.projections(layer)]
    _write(task, measured(task, work, places, places[:1], len(places)))


def _rounded(projection: Projection, task: dict) -> float:
    top = 2 ** (task["bits"] - 1) - 1
    weight = projection.module.weight
    lost = 0.0
    for block in weight.split(task["block_size"], dim=1):
        step = (block.abs().amax(dim=1, keepdim=True) / top).half().float()
        levels = (block / step).round().clamp(-top, top)
        lost += float((block - levels * step).square().sum())
    return lost**0.5 / float(weight.norm())


def _lost(projection: Projection, tensors: dict) -> float:
    """What blocks of 32 weights with a step each are expected to have lost by it."""
    names = (f"blk.{projection.layer}.{name}.weight" for name in NAMES[projection.name])
    tensor = next(tensors[name] for name in names if name in tensors)
    blocks = tensor.data.reshape(-1, STEP_FIRST[tensor.tensor_type.name])
    steps = blocks[:, :2].copy().view(np.float16).astype(np.float64)
    return float(np.sqrt(32 * np.square(steps).sum() / 12)) / float(projection.module.weight.norm())


def _has_steps(model_info: Path) -> bool:
    """Whether the model came from a GGUF file whose steps the loop knows how to find."""
    kinds = read_model_info(model_info).get("quantization_types") or {}
    return bool(kinds) and kinds.keys() <= {*STEP_FIRST, "F32", "F16"}


def _whole(task: dict, model_info: Path):
    torch.set_num_threads(task["cores"])
    folder = read_model_info(model_info)["folder"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for parameter in model.parameters():  # mapped from the file, and in memory only once looked at
        parameter.detach().sum()
    return model


def _model_and_texts(task: dict):
    model, tokenizer = load(task)
    return model, map_texts(task, tokenizer)


def _write(task: dict, scores: Sequence[Row] | Sequence[dict] | pd.DataFrame) -> None:
    frame = pd.DataFrame(scores, columns=["layer", "projection", "metric", "value"])
    frame.to_parquet(Path(task["folder"], "scores.parquet"), index=False)
