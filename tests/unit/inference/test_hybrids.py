"""Families that keep more than keys and values, or whose cache gives other states than one pass."""

import numpy as np
import pytest
import torch

import families
import tiny
from llm_figures.core.errors import UserError
from llm_figures.inference.generation import generate
from llm_figures.inference.prefix_cache import PrefixCache
from llm_figures.inference.responses import compute_log_probabilities
from llm_figures.models.decoders import decoder, decoder_layers
from llm_figures.probe.hidden_states import extract_hidden_states
from llm_figures.probe.p_true import compute_p_true

CACHED = {
    "qwen3_next": "linear attention",
    "lfm2": "convolutions",
    "kimi_linear": "linear attention beside latent attention",
    "zaya": "convolutions of queries and keys",
    "gemma3n_text": "layers that share keys and values",
}
# whose cache is of their own, or does not give what a whole pass gives
WHOLE = ["bamba", "jamba", "minimax", "moshi", "nemotron_h", "qwen4_exp_text"]
PREFIX = np.random.default_rng(3).integers(5, 380, 32).tolist()
PROMPTS = [
    PREFIX + np.random.default_rng(seed).integers(5, 380, length).tolist()
    for seed, length in enumerate((6, 9, 9, 17))
]
ANSWERS = [np.random.default_rng(9).integers(5, 380, n).tolist() for n in (3, 1, 4, 6)]


@pytest.fixture(scope="module", params=[*CACHED, *WHOLE])
def model(request):
    return families.tiny_model(request.param)


def test_the_cache_is_used_where_it_is_right(model):
    used = PrefixCache(model, PREFIX).prefix
    assert used == ([] if model.config.model_type in WHOLE else PREFIX)


def run_blocks(model, ids):
    """What each block passes on for one sequence, [tokens, hidden]."""
    states = []

    def keep(block, inputs, output):
        output = output[0] if isinstance(output, tuple) else output
        states.append(output.reshape(-1, *output.shape[-2:])[0])  # Gemma 3n: the first prediction

    handles = [block.register_forward_hook(keep) for block in decoder_layers(model)]
    decoder(model)(input_ids=torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return states


@torch.inference_mode()
def test_hidden_states_are_those_of_a_pass_over_each_answer_alone(model):
    positions = [
        {"first": len(prompt) - 1, "last": len(prompt) + len(answer) - 1}
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]
    found = {}
    arguments = (model, range(4), PROMPTS, ANSWERS, positions)
    for columns in extract_hidden_states(*arguments, batch_size=3):
        layers = [columns[name] for name in columns if name.startswith("layer_")]
        for row, key in enumerate(zip(columns["question_id"], columns["token"], strict=True)):
            found[key] = np.stack([layer[row] for layer in layers])
    for index, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        states = run_blocks(model, prompt + answer)
        for name, position in positions[index].items():
            expected = np.stack([state[position].numpy() for state in states])
            difference = np.abs(found[index, name][1:] - expected).max()
            assert difference <= 2e-5 * np.abs(expected).max()


@torch.inference_mode()
def test_answers_are_those_of_passes_over_whole_sequences(model):
    batches = generate(model, tiny.tokenizer(), PROMPTS, stop=[], max_new_tokens=5, batch_size=3)
    answers = {answer.index: answer for batch in batches for answer in batch}
    for index, prompt in enumerate(PROMPTS):
        ids = list(prompt)
        for token, log in zip(
            answers[index].answer_ids, answers[index].log_probabilities, strict=True
        ):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            assert int(logits.argmax()) == token
            assert float(logits.log_softmax(-1)[token]) == pytest.approx(log, abs=2e-4)
            ids.append(token)


@torch.inference_mode()
def test_log_probabilities_of_given_answers_are_those_of_whole_sequences(model):
    found = {}
    for indices, logs in compute_log_probabilities(model, PROMPTS, ANSWERS, batch_size=3):
        found.update(zip(indices, logs, strict=True))
    for index, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
        logs = logits[len(prompt) - 1 : -1].log_softmax(-1)
        expected = [float(row[token]) for row, token in zip(logs, answer, strict=True)]
        assert found[index] == pytest.approx(expected, abs=2e-4)


@torch.inference_mode()
def test_p_true_is_that_of_whole_sequences(model):
    """Batches hold prompts of unequal length, whatever the family keeps of earlier tokens."""
    prompts = [*PROMPTS, PROMPTS[3][: len(PREFIX) + 11]]
    batches = list(compute_p_true(model, prompts, 5, 6, batch_size=3))
    assert [batch for batch, _ in batches] == [[0], [1, 2, 4], [3]]
    found = {at: one for batch, row in batches for at, one in zip(batch, row, strict=True)}
    for index, prompt in enumerate(prompts):
        logits = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
        expected = torch.softmax(logits[[5, 6]].float(), dim=0)[0].item()
        assert found[index] == pytest.approx(expected, abs=1e-4)


def test_blocks_with_several_residual_streams_are_refused():
    model = families.tiny_model("hy_v4")
    states = extract_hidden_states(
        model, [0], PROMPTS[:1], ANSWERS[:1], [{"first": 5}], batch_size=1
    )
    with pytest.raises(UserError, match="type hy_v4 pass on 4 residual streams, not one; use site"):
        list(states)
