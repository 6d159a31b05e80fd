"""Tiny random models of real classes, and a tokenizer trained on the spot."""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

from llm_figures.attention.interventions import Intervention

# Every kind of intervention, on each component.
INTERVENTIONS = [
    Intervention(component, operation, **options)
    for component in ("query", "key", "value")
    for operation, options in (
        ("mean", {"over": "features"}),
        ("mean", {"over": "tokens"}),
        ("scale", {"epsilon": 0.5}),
        ("scale", {"epsilon": 1e-3}),
    )
]
TEXTS = [
    "Q: What is the capital of France?\nA: The capital of France is Paris.\n",
    "The old lighthouse keeper climbed the stairs every evening to light the lamp.",
    "A small team of scientists measured the temperature of the lake last winter.",
    "My neighbour planted three apple trees behind the house when she was young.",
]
SIZES = {
    "vocab_size": 384,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
    # Larger weights than usual, so that attention is far from uniform and differences show.
    "initializer_range": 0.3,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 12}


def tokenizer(texts: list[str] = TEXTS) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of at most 384 tokens that knows every string."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>")


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer in the way of Llama 2: words begin with ▁, unknown letters are bytes.

    It puts a space before every text, and drops the first space of what it decodes.
    """
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    # Lines are divided, so that no token joins a new line and a word.
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [inner.pre_tokenizer, pre_tokenizers.Split(Regex("\n"), "isolated")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<unk>", "<end>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    inner.train_from_iterator([text.replace("\n", " ") for text in TEXTS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<end>", pad_token="<end>", unk_token="<unk>"
    )


def config(family: str = "llama", **changes):
    """The configuration of a tiny model of this family."""
    kinds = {
        "llama": lambda: LlamaConfig(**{**SIZES, **GROUPED, **changes}),
        "mistral": lambda: MistralConfig(**{**SIZES, **GROUPED, "sliding_window": 5, **changes}),
        "qwen3": lambda: Qwen3Config(**{**SIZES, **GROUPED, **changes}),
        "gemma2": lambda: Gemma2Config(
            **{
                **SIZES,
                **GROUPED,
                "sliding_window": 5,
                "attn_logit_softcapping": 5.0,
                "query_pre_attn_scalar": 12,
                **changes,
            }
        ),
        "neox": lambda: GPTNeoXConfig(**{**SIZES, **changes}),
        # rotary embedding of half the features; the others are joined to them afterwards
        "phi": lambda: PhiConfig(**{**SIZES, **changes}),
        # interleaved: features are paired with their neighbours
        "cohere": lambda: CohereConfig(**{**SIZES, "num_key_value_heads": 2, **changes}),
        # two frequencies, by layer
        "gemma3": lambda: Gemma3TextConfig(
            **{
                **SIZES,
                **GROUPED,
                "sliding_window": 5,
                "query_pre_attn_scalar": 12,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                **changes,
            }
        ),
        # YaRN, sinks, experts, every other layer with a window
        "gpt_oss": lambda: GptOssConfig(
            **{
                **SIZES,
                **GROUPED,
                "sliding_window": 5,
                "num_local_experts": 2,
                "num_experts_per_tok": 1,
                **changes,
            }
        ),
        # no rotary embedding in the last layer
        "smollm3": lambda: SmolLM3Config(
            **{**SIZES, "num_key_value_heads": 2, "no_rope_layers": [1, 1, 0], **changes}
        ),
        # learned positions
        "gpt2": lambda: GPT2Config(**{**SIZES, **changes}),
        # learned positions, no module for the feed-forward part
        "opt": lambda: OPTConfig(
            **{
                **SIZES,
                "ffn_dim": 48,
                "word_embed_proj_dim": 32,
                "init_std": 0.3,
                "dropout": 0.0,
                **changes,
            }
        ),
        # biases of query, key and value; a window from the second layer on
        "qwen2": lambda: Qwen2Config(
            **{
                **SIZES,
                "num_key_value_heads": 2,
                "use_sliding_window": True,
                "sliding_window": 5,
                "max_window_layers": 1,
                **changes,
            }
        ),
        # query, key and value in one projection, and gate and up
        "phi3": lambda: Phi3Config(
            **{**SIZES, "num_key_value_heads": 2, "sliding_window": 5, **changes}
        ),
        # norms of query and key over all heads, and after attention
        "olmo2": lambda: Olmo2Config(**{**SIZES, "num_key_value_heads": 2, **changes}),
        # experts
        "mixtral": lambda: MixtralConfig(
            **{
                **SIZES,
                **GROUPED,
                "sliding_window": 5,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
                **changes,
            }
        ),
        "qwen3_moe": lambda: Qwen3MoeConfig(
            **{
                **SIZES,
                **GROUPED,
                "moe_intermediate_size": 24,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                **changes,
            }
        ),
        # rotary embedding of the last features, in a layout of its own
        "deepseek": lambda: DeepseekV3Config(
            **{
                **SIZES,
                "num_key_value_heads": 4,
                "q_lora_rank": 8,
                "kv_lora_rank": 8,
                "qk_rope_head_dim": 4,
                "qk_nope_head_dim": 8,
                "v_head_dim": 8,
                "first_k_dense_replace": 3,
                **changes,
            }
        ),
    }
    return kinds[family]()


def model(family: str = "llama", seed: int = 0, **changes):
    """A tiny random model in evaluation mode, the same for the same arguments."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config(family, **changes)).eval()


def save(folder: Path, **changes) -> Path:
    """A model folder as a user would have it."""
    model(**changes).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
