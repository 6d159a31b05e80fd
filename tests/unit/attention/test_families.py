"""Attention, hidden states and answers of every family of decoders, against slow references.

The largest deviations go to the log (pytest -o log_cli=true -o log_cli_level=INFO).
"""

import logging
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

import tiny
from llm_figures.attention.attention_hook import hook_attention
from llm_figures.attention.capture import build_state_rows, capture_attention
from llm_figures.attention.maps import LayerStates
from llm_figures.attention.qk_store import read_layer_states
from llm_figures.core.parquet_tensors import read_table, tensor_file
from llm_figures.inference.generation import generate
from llm_figures.models.loading import decoder, decoder_layers
from llm_figures.probe.hidden_states import extract_hidden_states

log = logging.getLogger(__name__)

FAMILIES = [
    *("gpt2", "neox", "opt", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"),
    *("olmo2", "mixtral", "qwen3_moe", "gpt_oss", "phi", "cohere", "smollm3", "deepseek"),
]
WINDOWS = {"mistral", "qwen2", "gemma2", "gemma3", "phi3", "mixtral", "gpt_oss"}
IDS = [5, 61, 17, 250, 33, 98, 7, 181, 44, 300, 12, 77, 140, 9]  # much longer than a window of 5
everywhere = range(3)


def perturbed(family, **changes):
    """A tiny model with biases, norms and sinks other than the neutral ones of a new model."""
    model = tiny.model(family, **changes)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=random)
    return model


def test_what_sets_families_apart_is_covered():
    configs = {family: tiny.config(family) for family in FAMILIES}
    heads = {name: config.num_attention_heads for name, config in configs.items()}
    width = {name: getattr(config, "head_dim", None) for name, config in configs.items()}
    grouped = {
        name
        for name, config in configs.items()
        if getattr(config, "num_key_value_heads", None) not in (None, heads[name])
    }
    assert {"llama", "qwen2", "gemma2", "phi3", "olmo2", "gpt_oss"} <= grouped
    assert any(width[name] and width[name] * heads[name] != 32 for name in grouped)
    assert {"gpt2", "opt", "gemma2"} <= {n for n, c in configs.items() if c.tie_word_embeddings}
    for family in ("gpt2", "opt", "qwen2", "gpt_oss"):
        biases = [name for name, _ in perturbed(family).named_parameters() if "bias" in name]
        assert any("attn" in name for name in biases)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return perturbed(family)


@pytest.fixture(autouse=True)
def unchanged(request):
    """Check after every test that the model is the same, bit for bit."""
    if "model" not in request.fixturenames:
        yield
        return
    model = request.getfixturevalue("model")
    named = [*model.named_parameters(), *model.named_buffers()]
    before = {name: tensor.clone() for name, tensor in named}
    implementation, logits = model.config._attn_implementation, logits_of(model)
    yield
    assert model.config._attn_implementation == implementation
    after = dict([*model.named_parameters(), *model.named_buffers()])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(logits, logits_of(model))


@torch.inference_mode()
def logits_of(model, ids=IDS):
    return model(torch.tensor([ids])).logits


def cached(model, tmp_path, interventions=None, ids=IDS):
    """States of all layers, written to a file and read back."""
    captured = capture_attention(model, ids, everywhere, interventions)
    schema, rows = build_state_rows(tiny.tokenizer(), 1, ids, captured, longest=len(ids) + 3)
    with tensor_file(tmp_path / "states.parquet", schema) as file:
        file.write(rows)
    return [states for _, states in read_layer_states(read_table(tmp_path / "states.parquet"))]


@contextmanager
def implementation(model, name):
    """The model with another attention implementation inside the block."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def eager(model, ids=IDS):
    """transformers' own weights of every layer, [heads, tokens, tokens]."""
    with implementation(model, "eager"), torch.inference_mode():
        found = model(torch.tensor([ids]), output_attentions=True).attentions
    assert len(found) == 3
    return [layer[0].float().numpy() for layer in found]


def check_deviation(family, what, deviation, bound):
    log.info("%s | %s | %.1e (bound %.1e)", family, what, deviation, bound)
    assert deviation <= bound


def largest(found, expected):
    return max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))


def test_cached_states_give_the_weights_of_eager_attention(family, model, tmp_path):
    expected = eager(model)
    found = [states.compute_weights() for states in cached(model, tmp_path)]
    check_deviation(family, "weights, float32", largest(found, expected), 1e-5)
    # The comparison means something only if attention is neither uniform nor all on one token.
    assert np.abs(found[1][:, -1] - 1 / len(IDS)).max() > 0.1
    windows = [states.window for states in cached(model, tmp_path)]
    assert (5 in windows) == (family in WINDOWS)
    for layer, window in enumerate(windows):
        if window:
            assert (np.tril(expected[layer], -window) == 0).all()


def test_in_bfloat16_the_weights_are_eagers_but_for_its_rounding(family, tmp_path):
    """Ours are exact for the states the kernel saw; eager attention rounds scores to 8 bits.

    A score is rounded where it is multiplied, scaled and masked, and three times more where it is
    capped: by at most 2⁻⁸ of itself each time, δ in all. A softmax whose scores are each wrong by
    δ at most is wrong by tanh(δ / 2) at most (a weight of one half moves furthest), and the result
    is rounded once more. That bound is for the worst case; 0.02 is the most that was measured.
    """
    model = perturbed(family).to(torch.bfloat16)
    with implementation(model, "eager"):
        states = cached(model, tmp_path)
    for expected, found in zip(eager(model), states, strict=True):
        group = len(found.query) // len(found.key)
        scores = found.query @ found.key.repeat(group, axis=0).transpose(0, 2, 1) * found.scaling
        roundings = 3 + 3 * (found.softcap is not None)
        bound = min(np.tanh(roundings * 2**-8 * np.abs(scores).max() / 2) + 2**-9, 1 / 32)
        check_deviation(
            family, "weights, bfloat16", largest([found.compute_weights()], [expected]), bound
        )


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_padded_batch_gives_the_states_of_each_text_by_itself(family, side):
    model = perturbed(family)
    texts = [IDS, IDS[3:11], IDS[::-1][:12]]
    longest = max(map(len, texts))
    alone = [capture_attention(model, ids, everywhere) for ids in texts]
    ids, mask = np.zeros((3, longest), int), np.zeros((3, longest), int)
    places = []
    for row, text in enumerate(texts):
        start = 0 if side == "right" else longest - len(text)
        places.append(slice(start, start + len(text)))
        ids[row, places[row]], mask[row, places[row]] = text, 1
    positions = torch.tensor((mask.cumsum(axis=1) - 1).clip(0))
    with hook_attention(model, everywhere) as captured, torch.inference_mode():
        decoder(model)(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            position_ids=positions,
            use_cache=False,
        )
    worst = worst_weights = 0.0
    for row, place in enumerate(places):
        for layer in everywhere:
            one, among = alone[row][layer], captured[layer]
            for name in ("query", "key"):
                a, b = getattr(one, name)[0], getattr(among, name)[row][:, place]
                worst = max(worst, float((a - b).abs().max() / a.abs().max()))
            pair = [
                LayerStates(
                    *(1, layer, query.numpy(), key.numpy(), one.scaling, one.window, one.softcap),
                    None if one.sinks is None else one.sinks.numpy(),
                ).compute_weights()
                for query, key in (
                    (one.query[0], one.key[0]),
                    (among.query[row][:, place], among.key[row][:, place]),
                )
            ]
            worst_weights = max(worst_weights, np.abs(pair[0] - pair[1]).max())
    check_deviation(family, f"states, padded on the {side}, of the largest", worst, 1e-5)
    check_deviation(family, f"weights, padded on the {side}", worst_weights, 1e-5)


class Slow:
    """Attention in double precision, one query of one head at a time; stores its maps."""

    def __init__(self, interventions):
        self.interventions, self.maps = interventions, {}

    def __call__(
        self,
        module,
        query,
        key,
        value,
        mask,
        scaling=None,
        sliding_window=None,
        softcap=None,
        s_aux=None,
        **_,
    ):
        parts = {"query": query, "key": key, "value": value}
        parts = {name: part[0].double().clone() for name, part in parts.items()}
        if intervention := self.interventions.get(module.layer_idx):
            self.intervene(intervention, parts[intervention.component])
        heads, tokens, width = parts["query"].shape
        group = heads // len(parts["key"])
        scaling = width**-0.5 if scaling is None else scaling
        output = torch.zeros(heads, tokens, parts["value"].shape[-1], dtype=torch.float64)
        maps = np.zeros((heads, tokens, tokens))
        for head in range(heads):
            for row in range(tokens):
                first = max(0, row + 1 - sliding_window) if sliding_window else 0
                scores = []
                for column in range(first, row + 1):
                    pair = parts["query"][head, row] * parts["key"][head // group, column]
                    score = float(pair.sum()) * scaling
                    if softcap:
                        score = np.tanh(score / softcap) * softcap
                    scores.append(score)
                sink = [] if s_aux is None else [float(s_aux[head])]
                top = max(scores + sink)
                parts_of_one = np.exp(np.array(scores + sink) - top)
                weights = (parts_of_one / parts_of_one.sum())[: len(scores)]
                maps[head, row, first : row + 1] = weights
                for column, weight in zip(range(first, row + 1), weights, strict=True):
                    output[head, row] += weight * parts["value"][head // group, column]
        self.maps[module.layer_idx] = maps
        return output.to(value.dtype)[None].transpose(1, 2), None

    @staticmethod
    def intervene(intervention, part):
        heads, tokens, width = part.shape
        if intervention.operation == "scale":
            part *= intervention.epsilon
        elif intervention.over == "features":
            for head in range(heads):
                for token in range(tokens):
                    part[head, token] = sum(part[head, token].tolist()) / width
        else:
            for head in range(heads):
                for feature in range(width):
                    column = part[head, :, feature].tolist()
                    part[head, :, feature] = sum(column) / tokens


def by_hand(model, interventions):
    """(maps of every layer, logits) of the slow reference with these interventions."""
    slow = Slow(interventions)
    AttentionInterface.register("by_hand", slow)
    AttentionMaskInterface.register("by_hand", eager_mask)
    with implementation(model, "by_hand"):
        logits = logits_of(model)
    return [slow.maps[layer] for layer in everywhere], logits


def test_the_slow_reference_is_eager_attention(family, model):
    check_deviation(family, "reference", largest(by_hand(model, {})[0], eager(model)), 1e-5)


@pytest.mark.parametrize("where", [[1], everywhere], ids=["one layer", "every layer"])
def test_intervened_maps_are_those_of_a_slow_reference(where, family, model, tmp_path):
    """Of passes and, with an intervention in one layer, of the cached states as well."""
    before = cached(model, tmp_path)
    plain = logits_of(model)
    worst = worst_logits = 0.0
    for intervention in tiny.INTERVENTIONS:
        interventions = dict.fromkeys(where, intervention)
        expected, logits = by_hand(model, interventions)
        states = cached(model, tmp_path, interventions)
        worst = max(worst, largest([s.compute_weights() for s in states], expected))
        with hook_attention(model, interventions=interventions):
            hooked = logits_of(model)
        worst_logits = max(worst_logits, float((hooked - logits).abs().max() / logits.abs().max()))
        if len(where) == 1:
            (layer,) = where
            found = before[layer].intervene(intervention).compute_weights()
            worst = max(worst, largest([found], [expected[layer]]))
        scaled_value = intervention.component == "value" and intervention.operation == "scale"
        if not scaled_value:  # which a later norm may undo
            assert not torch.allclose(hooked, plain, atol=1e-3), intervention
    check_deviation(family, f"intervened maps, {len(where)} layer(s)", worst, 1e-5)
    check_deviation(
        family, f"intervened logits, {len(where)} layer(s), of the largest", worst_logits, 1e-5
    )


PREFIX = [
    70,
    8,
    211,
    10,
    11,
    300,
    13,
    14,
    99,
    16,
    17,
    41,
]  # longer than a window, 3 × 4
PROMPTS = [[*PREFIX, 20, 21], [*PREFIX, 22], [*PREFIX, 23, 24, 25, 120, 121, 122]]
ANSWERS = [[30, 31, 32], [33], [34, 35, 36, 37, 38, 39, 40]]
PARTS = {  # of a block: the outputs of attention and of the feed-forward part
    "gpt2": ("attn", "mlp"),
    "neox": ("attention", "mlp"),
    "opt": ("self_attn", "fc2"),
}


@pytest.mark.parametrize("site", ["residual", "attention", "mlp", "mlp_input"])
def test_hidden_states_are_those_of_plain_passes(site, family, model):
    sequences = [[*prompt, *answer] for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    positions = [
        {"last_q": len(prompt) - 1, "-1": len(sequence) - 1}
        for prompt, sequence in zip(PROMPTS, sequences, strict=True)
    ]
    found = {}
    for columns in extract_hidden_states(
        model, [0, 1, 2], PROMPTS, ANSWERS, positions, site=site, batch_size=2
    ):
        rows = zip(columns["question_id"], columns["token"], strict=True)
        for row, key in enumerate(rows):
            found[key] = [columns[f"layer_{layer:02d}"][row] for layer in range(4)]
    assert len(found) == 6
    outputs = {}
    parts = dict(zip(("attention", "mlp"), PARTS.get(family, ("self_attn", "mlp")), strict=True))
    parts["mlp_input"] = "fc1" if family == "opt" else parts["mlp"]
    handles = [
        (block if site == "residual" else getattr(block, parts[site])).register_forward_hook(
            lambda module, args, output, layer=layer: outputs.update(
                {layer: args[0] if site == "mlp_input" else output}
            )
        )
        for layer, block in enumerate(decoder_layers(model), start=1)
    ]
    worst = 0.0
    for question, sequence in enumerate(sequences):
        with torch.inference_mode():
            states = model(torch.tensor([sequence]), output_hidden_states=True).hidden_states
        for token, position in positions[question].items():
            for layer in range(4):
                if layer == 0 or (site == "residual" and layer < 3):
                    expected = states[layer][0]  # the last of them is normed
                else:
                    output = outputs[layer]
                    expected = output[0] if isinstance(output, tuple) else output
                    expected = expected.reshape(len(sequence), -1)
                expected = expected.numpy()
                difference = np.abs(found[question, token][layer] - expected[position]).max()
                worst = max(worst, difference / np.abs(expected).max())
    for handle in handles:
        handle.remove()
    check_deviation(family, f"hidden states, {site}, of the largest", worst, 1e-5)


def test_answers_are_those_of_a_plain_loop(family, model):
    found = {
        answer.index: answer
        for batch in generate(
            model, tiny.tokenizer(), PROMPTS, stop=[], max_new_tokens=9, batch_size=2
        )
        for answer in batch
    }
    for index, prompt in enumerate(PROMPTS):
        ids = list(prompt)
        for _ in range(9):
            ids.append(int(logits_of(model, ids)[0, -1].argmax()))
        expected = ids[len(prompt) :]
        if 0 in expected:
            expected = expected[: expected.index(0)]
        assert found[index].answer_ids == expected[: len(found[index].answer_ids)]
        assert found[index].text == tiny.tokenizer().decode(expected)
