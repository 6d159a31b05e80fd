"""What every method of the work attention does, and what all peers do alike.

Peers' Pythons import this: the standard library, NumPy, torch and transformers, nothing of ours.
"""

import json
import os
import random
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
WARM_UP = 8  # tokens
# Every kind of change of the three figures, of each component: (component, operation, epsilon).
CHANGES = [
    (component, operation, epsilon)
    for operation, epsilon in (
        ("mean over features", None),  # mean_qkv
        ("mean over tokens", None),  # mean_qkv_tokens
        ("scale", 0.5),  # scale_qkv
    )
    for component in ("query", "key", "value")
]


def model_folder(task: dict) -> Path:
    return Path(json.loads(Path(task["model_info"]).read_text())["folder"])


def token_ids(task: dict) -> list[list[int]]:
    """The texts: as many tokens each as the task says, cut from the documents, seeded."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder(task), local_files_only=True)
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    words = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    ids = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
    while len(ids) < 2 * task["tokens"]:
        ids += ids
    chosen = random.Random(SEED)
    starts = [chosen.randrange(len(ids) - task["tokens"]) for _ in range(task["texts"])]
    return [ids[start : start + task["tokens"]] for start in starts]


def warm_up(texts: list[list[int]]) -> list[list[int]]:
    return [texts[0][:WARM_UP]]


def displayed_layer(task: dict, layers: int) -> int:
    """The layer at the task's depth, a share of the model's."""
    return int(task["depth"] * layers)


def no_maps(texts: list[list[int]]) -> np.ndarray:
    """Room for the maps: [interventions, texts, queries, keys]."""
    tokens = len(texts[0])
    return np.zeros((len(CHANGES), len(texts), tokens, tokens), np.float32)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def eager_model(task: dict):
    """The model as transformers loads it, with eager attention; on a CPU on all cores."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(cores())
    model = AutoModelForCausalLM.from_pretrained(
        model_folder(task),
        attn_implementation="eager",
        dtype=getattr(torch, task["dtype"]),
        local_files_only=True,
    )
    return model.to(task["device"]).eval()


def changed(states, operation: str, epsilon: float | None, tokens: int = -2):
    """States [..., head_dim] changed, torch's; tokens: the dimension of the positions."""
    if operation == "scale":
        return states * epsilon
    dimension = -1 if operation == "mean over features" else tokens
    return states.mean(dim=dimension, keepdim=True).expand_as(states)


def every_map(texts: list[list[int]], map_of, device: str) -> np.ndarray:
    """The peers' loop: a pass for each change of each text.

    map_of: (ids [1, tokens], component, operation, epsilon) -> mean over heads [tokens, tokens].
    device: the ids'.
    """
    import torch

    maps = no_maps(texts)
    with torch.inference_mode():
        for number, change in enumerate(CHANGES):
            for index, ids in enumerate(texts):
                found = map_of(torch.tensor([ids], device=device), *change)
                maps[number, index] = found.float().cpu().numpy()
    return maps


def save(task: dict, maps: np.ndarray) -> None:
    np.save(Path(task["folder"], "maps.npy"), maps)
