"""Weights of one layer under nine interventions: TransformerLens, in an environment of its own."""

import os
from functools import partial

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from attention_work import (
    changed,
    cores,
    displayed_layer,
    eager_model,
    every_map,
    model_folder,
    save,
    token_ids,
    warm_up,
)
from measuring import measured
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer

# Hooks at what the layer's scores are computed from: [batch, tokens, heads, head_dim].
HOOKS = {"query": "hook_rot_q", "key": "hook_rot_k", "value": "hook_v"}


def whole(task: dict, stop: bool = False) -> None:
    """A pass with hooks for each intervention: one alters, one takes the pattern."""
    loaded = eager_model(task)
    model = TransformerBridge.boot_transformers(
        str(model_folder(task)),
        hf_model=loaded,
        tokenizer=AutoTokenizer.from_pretrained(model_folder(task), local_files_only=True),
        device=task["device"],
        dtype=getattr(torch, task["dtype"]),
    )
    torch.set_num_threads(cores())
    layer = displayed_layer(task, loaded.config.num_hidden_layers)
    place = f"blocks.{layer}.attn"

    def map_of(ids, component, operation, epsilon):
        found = []
        model.run_with_hooks(
            ids,
            return_type=None,
            stop_at_layer=layer + 1 if stop else None,
            fwd_hooks=[
                (
                    f"{place}.{HOOKS[component]}",
                    lambda states, hook: changed(states, operation, epsilon, tokens=-3),
                ),
                (f"{place}.hook_pattern", lambda seen, hook: found.append(seen[0].mean(dim=0))),
            ],
        )
        return found[0]

    texts = token_ids(task)
    work = partial(every_map, map_of=map_of, device=task["device"])
    save(task, measured(task, work, texts, warm_up(texts), len(texts)))


def stopped(task: dict) -> None:
    """The same, stopped behind the layer's block."""
    whole(task, stop=True)
