"""The limit: the machine's own rate of matrix products, and how many operations a pass takes."""

from collections.abc import Sequence

from works import ON_CPU, Method, Work

SIZES = {"tokens": 1024, "features": 2048, "products": 40}


def block_operations(model, tokens: int, layers: int | None = None) -> float:
    """Operations of the blocks' matrix products on so many tokens: two a weight and token.

    layers: of the first so many blocks alone. Attention's own products come on top of it, see
    `attention_operations`.
    """
    from llm_figures.models.loading import decoder_layers

    weights = sum(
        parameter.numel()
        for block in decoder_layers(model)[:layers]
        for parameter in block.parameters()
        if parameter.dim() > 1
    )
    return 2.0 * weights * tokens


def attention_operations(model, tokens: int, layers: int) -> float:
    """Scores and weighted values of one text in so many blocks; half of each map is masked."""
    shape = model.config.get_text_config()
    width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    return 2.0 * layers * tokens**2 * shape.num_attention_heads * width


def shared_operations(model, lengths: Sequence[int], prefix: int) -> float:
    """Blocks and attention of passes over texts of these lengths, whose first `prefix` tokens,
    the same in all, go through the model once.
    """
    from llm_figures.models.loading import decoder_layers

    layers = len(decoder_layers(model))
    shared = attention_operations(model, prefix, layers)
    own = [attention_operations(model, length, layers) - shared for length in lengths]
    tokens = prefix + sum(length - prefix for length in lengths)
    return block_operations(model, tokens) + shared + sum(own)


def head_operations(model, tokens: int) -> float:
    """Of the logits of so many tokens."""
    return 2.0 * model.get_output_embeddings().weight.numel() * tokens


def products(task: dict) -> None:
    """Products of [tokens, features] with [features, features], by torch's own choice."""
    from torch import nn

    _products(task, nn.Linear)


def products_as_ours(task: dict) -> None:
    """The same as the pipeline's models compute them."""
    from llm_figures.models.cpu_kernels import OneDnnLinear

    _products(task, OneDnnLinear)


def _products(task: dict, kind) -> None:
    import torch
    from measuring import measured, note

    torch.set_num_threads(task["cores"])
    place = {"device": task["device"], "dtype": getattr(torch, task["dtype"])}
    left = torch.randn(task["tokens"], task["features"], **place)
    layer = kind(task["features"], task["features"], bias=False, **place)

    @torch.inference_mode()
    def work(count: int) -> None:
        for _ in range(count):
            product = layer(left)
        product[0, 0].item()  # a GPU is waited for

    measured(task, work, task["products"], 2, task["products"])
    note(task, operations=2.0 * task["products"] * task["tokens"] * task["features"] ** 2)


OF_TORCH = Method("torch's own", "limit:products")
WORKS = (
    Work(
        ON_CPU.limit,
        (OF_TORCH, Method("ours", "limit:products_as_ours")),
        options=SIZES,
        small={"tokens": 64, "features": 64, "products": 4},
    ),
)
