"""The module map's ablation beside the obvious loop: a full pass for every projection and text.

    .venv/bin/python benchmarks/module_map.py --model smollm2-135m --texts 6 --repeats 3

after `snakemake module_map`. Both methods measure every cell on the same texts, each in a process
of its own, in turn; they must agree to 1e-4 nats before their times are shown.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import CORES, config, measured, results, run_apart

METHODS = ("loop", "ours")
LARGEST_DIFFERENCE = 1e-4  # nats
LARGEST_LOAD = 0.15  # of other programs, in cores


def run(task: dict) -> None:
    """One method; writes layer, module, metric, value beside its cost."""
    import torch

    from llm_figures.models import load_model
    from llm_figures.module_ablation import ablation_effects
    from llm_figures.module_scores import ablation_scores

    card = results(task["model"]) / "model.json"
    model, tokenizer = load_model(card, device="cpu", threads=CORES)
    texts = config()["figures"]["module_map"]["texts"][: task["texts"]]
    ids = [tokenizer(text)["input_ids"] for text in texts]

    @torch.inference_mode()
    def loop(ids):
        return obvious_loop(model, ids)

    def ours(ids):
        return ablation_scores(ablation_effects(model, ids))

    work = {"loop": loop, "ours": ours}[task["method"]]
    few = [ids[0][:4]] if task["method"] == "ours" else []
    scores = measured(task, lambda ids: work(ids) if ids else None, ids, few, len(ids))
    scores.to_parquet(Path(task["folder"], "scores.parquet"))


def obvious_loop(model, texts) -> pd.DataFrame:
    """Means from one pass over each text, then a full pass per projection and text."""
    import torch

    from llm_figures.projections import projections

    sums, count = {}, 0
    modules = [(p.layer, p.name, p.module) for p in projections(model)]

    def adding(key):
        def hook(module, args, output):
            sums[key] = sums.get(key, 0) + output[0].double().sum(0)

        return hook

    hooks = [m.register_forward_hook(adding((layer, name))) for layer, name, m in modules]
    before = []
    for text in texts:
        logits = model(torch.tensor([text]), use_cache=False).logits[0]
        before.append(logits.log_softmax(-1))
        count += len(text)
    for hook in hooks:
        hook.remove()
    rows = []
    for layer, name, module in modules:
        mean = (sums[layer, name] / count).float()
        hook = module.register_forward_hook(
            lambda module, args, output, mean=mean: mean.expand_as(output)
        )
        rise = divergence = 0.0
        for text, old in zip(texts, before, strict=True):
            new = model(torch.tensor([text]), use_cache=False).logits[0].log_softmax(-1)
            following = torch.tensor(text[1:])[:, None]
            rise += float((old[:-1].gather(1, following) - new[:-1].gather(1, following)).sum())
            divergence += float((old.exp() * (old - new)).sum())
        hook.remove()
        predicted = count - len(texts)
        rows.append((layer, name, "ablation_effect", rise / predicted))
        rows.append((layer, name, "ablation_kl", divergence / count))
    return pd.DataFrame(rows, columns=["layer", "module", "metric", "value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m", help="whose results are used")
    parser.add_argument("--texts", type=int, default=6, help="of figures.module_map.texts")
    parser.add_argument("--repeats", type=int, default=1, help="runs of either method")
    options = parser.parse_args()
    if not (results(options.model) / "model.json").is_file():
        sys.exit(f"model.json of {options.model} is missing: run `snakemake module_map` first")
    rows = []
    with tempfile.TemporaryDirectory(prefix="module-map-benchmark-") as folder:
        for repeat in range(options.repeats):
            for method in METHODS:
                print(f"{method}, run {repeat + 1} of {options.repeats}", flush=True)
                task = {"stage": "ablation", "method": method, "folder": f"{folder}/{method}"}
                rows.append(run_apart(task | vars(options)))
        found = [
            pd.read_parquet(f"{folder}/{method}/scores.parquet")
            .set_index(["metric", "layer", "module"])["value"]
            .sort_index()
            for method in METHODS
        ]
    difference = float(np.abs(found[0] - found[1]).max())
    if not difference < LARGEST_DIFFERENCE:
        sys.exit(f"the methods differ by {difference:.2g} nats: no comparison")
    costs = pd.DataFrame(rows)
    table = costs.groupby("method")[["seconds", "setup_seconds", "peak_mb", "other_load"]].median()
    print(f"\n{options.model}, {options.texts} texts, {len(found[0])} values, {CORES} cores")
    print(table.round(1).to_string())
    print(f"loop / ours: {table['seconds']['loop'] / table['seconds']['ours']:.1f}")
    print(f"largest difference: {difference:.1g} nats")
    if (load := costs["other_load"].max()) > LARGEST_LOAD:
        sys.exit(f"other programs kept {load:.1f} cores busy: these times are void")


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(json.loads(sys.argv[2]))
    else:
        main()
