"""A model of 7B size with random weights: what a large one costs does not depend on training."""

import json
import shutil
import sys
from pathlib import Path

SEED = 0
SIZES = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}  # with the default model's vocabulary 7.4e9 weights, 15 GB
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def make(task: dict) -> None:
    """Write model info, weights and the tokenizer of the run's model, whose questions it reads."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    folder = Path(task["folder"])
    own = json.loads(Path(task["results"], "model.json").read_text())["folder"]
    tokenizer = AutoTokenizer.from_pretrained(own, local_files_only=True)
    tokenizer.save_pretrained(folder)
    shape = LlamaConfig(
        **(SMALL if task["small"] else SIZES),
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(SEED)
    with torch.device(task["device"]):
        model = AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, task["dtype"]))
    needed = sum(weights.nbytes for weights in model.parameters())
    if needed > (free := shutil.disk_usage(folder).free):
        sys.exit(
            f"the weights of the made-up model take {needed / 1e9:.0f} GB, and {folder} has "
            f"{free / 1e9:.0f} GB left; set TMPDIR to a larger folder"
        )
    model.save_pretrained(folder)
    model_info = {
        "folder": str(folder),
        "dtype": task["dtype"],
        "trust_remote_code": False,
        "safetensors_only": True,
    }
    (folder / "model.json").write_text(json.dumps(model_info))
