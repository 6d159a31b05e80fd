import math

import numpy as np
import pytest
import torch

import tiny
from llm_figures.core.errors import UserError
from llm_figures.inference.finite_outputs import advise
from llm_figures.inference.generation import (
    NO_STOP,
    choose_tokens,
    cut_at_stop,
    generate,
    make_stop_check,
)
from llm_figures.inference.options import Sampling
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.probe.token_positions import locate_named_tokens

PREAMBLE = "Q: What is the capital of France?\nA: Paris.\n"
QUESTIONS = ["one", "the lamp", "the lake", "a tree?", "what is the capital", "evening", "winter?"]
SETTINGS = {"stop": ["\n"], "max_new_tokens": 7}


@pytest.fixture(scope="module", params=["llama", "mistral"])
def model(request):
    return tiny.model(request.param)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def prompts(tokenizer):
    return [tokenizer(f"{PREAMBLE}Q: {question}\nA:")["input_ids"] for question in QUESTIONS]


def answers(model, tokenizer, ids, **settings):
    batches = generate(model, tokenizer, ids, **{**SETTINGS, **settings})
    return {answer.index: answer for batch in batches for answer in batch}


def test_answers_are_those_of_transformers_own_greedy_search(model, tokenizer):
    ids = prompts(tokenizer)
    generated = answers(model, tokenizer, ids, batch_size=3)
    assert sorted(generated) == list(range(len(QUESTIONS)))
    for index, prompt in enumerate(ids):
        with torch.inference_mode():
            expected = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt)),
                max_new_tokens=7,
                do_sample=False,
            )[0, len(prompt) :].tolist()
        text = tokenizer.decode([token for token in expected if token != tokenizer.eos_token_id])
        assert generated[index].text == text.split("\n")[0]
        assert generated[index].answer_ids == expected[: len(generated[index].answer_ids)]


def same(left, right):
    """Equal answers, their log-probabilities but for rounding in batches of other sizes."""
    assert left.keys() == right.keys()
    for index, answer in left.items():
        assert answer.answer_ids == right[index].answer_ids
        assert answer.text == right[index].text
        np.testing.assert_allclose(
            answer.log_probabilities, right[index].log_probabilities, atol=1e-4
        )


def test_batch_size_changes_no_answer(model, tokenizer):
    ids = prompts(tokenizer)
    alone, nine = (answers(model, tokenizer, ids, batch_size=size) for size in (1, 9))
    same(alone, nine)
    assert list(alone) == list(nine)  # in the order of a file's rows


def test_log_probabilities_are_those_of_a_plain_pass(model, tokenizer):
    ids = prompts(tokenizer)
    for index, answer in answers(model, tokenizer, ids, batch_size=4).items():
        with torch.inference_mode():
            logits = model(torch.tensor([ids[index] + answer.answer_ids])).logits[0]
        logs = torch.log_softmax(logits.double(), dim=-1)
        at = range(len(ids[index]) - 1, len(ids[index]) + len(answer.answer_ids) - 1)
        expected = [
            logs[place, token].item() for place, token in zip(at, answer.answer_ids, strict=True)
        ]
        np.testing.assert_allclose(answer.log_probabilities, expected, atol=1e-4)


def test_samples_repeat_with_their_seed_whatever_batch_or_shard_they_are_in(model, tokenizer):
    ids = prompts(tokenizer)
    warm = Sampling(temperature=1.0, top_p=0.95, seed=3)
    first = answers(model, tokenizer, ids, batch_size=9, sampling=warm)
    same(first, answers(model, tokenizer, ids, batch_size=2, sampling=warm))
    alone = answers(model, tokenizer, ids[4:5], batch_size=1, sampling=warm, keys=[4])
    assert alone[0].answer_ids == first[4].answer_ids
    other = answers(model, tokenizer, ids, batch_size=9, sampling=Sampling(temperature=1.0, seed=4))
    assert [answer.answer_ids for answer in first.values()] != [
        answer.answer_ids for answer in other.values()
    ]


def test_sampling_follows_the_probabilities_of_the_nucleus():
    probabilities = np.array([0.05, 0.5, 0.3, 0.15])
    logits = torch.tensor([[math.log(p) for p in probabilities]]).repeat(4000, 1)
    draws = [np.random.default_rng([0, key]) for key in range(4000)]
    tokens = choose_tokens(logits, Sampling(temperature=1), draws)
    counts = np.bincount(tokens[:, 0], minlength=4) / 4000
    np.testing.assert_allclose(counts, probabilities, atol=0.03)
    draws = [np.random.default_rng([1, key]) for key in range(4000)]
    nucleus = choose_tokens(logits, Sampling(temperature=1, top_p=0.75), draws)[:, 0]
    np.testing.assert_allclose(
        np.bincount(nucleus, minlength=4) / 4000, [0, 0.625, 0.375, 0], atol=0.03
    )
    draws = [np.random.default_rng([2, key]) for key in range(4000)]
    cold = choose_tokens(logits, Sampling(temperature=0.1), draws)
    assert (cold == 1).float().mean() > 0.98
    assert (choose_tokens(logits, Sampling(), []) == 1).all()


def test_token_offsets_cover_the_text(model, tokenizer):
    for answer in answers(model, tokenizer, prompts(tokenizer), batch_size=4).values():
        pieces = [
            answer.text[start:end] for start, end in zip(answer.starts, answer.ends, strict=True)
        ]
        assert "".join(pieces) == answer.text
        assert len(pieces) == len(answer.answer_ids)


def test_the_stop_is_no_part_of_the_answer(model, tokenizer):
    ids = prompts(tokenizer)
    free = answers(model, tokenizer, ids, batch_size=4, stop=["<never>"])
    longest = max(free.values(), key=lambda answer: len(answer.text))
    stop = longest.text[len(longest.text) // 2]
    cut = answers(model, tokenizer, ids, batch_size=4, stop=["<never>", stop])[longest.index]
    assert cut.text == longest.text.split(stop)[0]
    assert len(cut.answer_ids) < len(longest.answer_ids)
    assert cut.answer_ids == longest.answer_ids[: len(cut.answer_ids)]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Paris.\nQ: What", " Paris."),
        ("\n\nParis.\nQ: What", "\n\nParis."),  # as models trained on chats begin
        (" \n Paris. Q: What", " \n Paris. "),
        ("Q: What is", ""),
        (" \n ", " \n "),
        ("Paris", "Paris"),
        ("", ""),
    ],
)
def test_a_stop_counts_once_the_answer_has_begun(tokenizer, text, answer):
    ids = tokenizer(text)["input_ids"]
    stop = ["\n", "Q:"]
    cut = cut_at_stop(tokenizer, 0, [1], ids, [0.0] * len(ids), set(), stop)
    assert cut.text == answer
    assert cut.cut is (answer == text)
    assert make_stop_check(tokenizer, {-1}, stop)(ids or [0]) is (answer != text)


def test_a_character_of_several_tokens_is_covered_by_its_first(tokenizer):
    ids = tokenizer(" is Łódź.")["input_ids"]
    answer = cut_at_stop(tokenizer, 0, [1], ids, [0.0] * len(ids), set(), ["\n"])
    assert len(answer.answer_ids) > len(answer.text) - 3  # every accented letter is two tokens
    positions = locate_named_tokens(0, answer.starts, answer.ends, (4, 8))
    first = positions["exact_answer_first"]
    assert tokenizer.decode(ids[:first]) == " is "
    assert positions["exact_answer_before_first"] == first - 1


def test_an_answer_is_cut_unless_it_ends_by_itself(model, tokenizer):
    ids = prompts(tokenizer)
    free = answers(model, tokenizer, ids, batch_size=4, stop=[])
    end = tokenizer.eos_token_id
    assert {answer.cut for answer in free.values()} == {True}  # none of them ends
    for index, answer in free.items():
        text = answer.text
        # the last token that is allowed completes the stop
        stop = text[answer.starts[-1] :]
        if stop and text.find(stop) == answer.starts[-1]:
            (stopped,) = answers(model, tokenizer, [ids[index]], batch_size=1, stop=[stop]).values()
            assert stopped.text == text.removesuffix(stop)
            assert not stopped.cut
            assert stopped.stop_id == answer.answer_ids[-1]
            break
    else:
        pytest.fail("no answer ends in a token of its own")
    last = free[0].answer_ids[-1]
    model.generation_config.eos_token_id, kept = last, model.generation_config.eos_token_id
    try:
        ended = answers(model, tokenizer, ids[:1], batch_size=1, stop=[])[0]
    finally:
        model.generation_config.eos_token_id = kept
    assert not ended.cut
    assert end not in ended.answer_ids
    assert ended.answer_ids == free[0].answer_ids[: free[0].answer_ids.index(last)]
    assert ended.stop_id == last
    assert {answer.stop_id for answer in free.values()} == {NO_STOP}


@pytest.fixture
def own_model():
    return tiny.model()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_model_of_no_numbers_is_refused_by_name(own_model, tokenizer, value, temperature):
    own_model.config._name_or_path = own_model.name_or_path = "models/broken"
    forward = own_model.lm_head.forward

    def spoilt(states):
        logits = forward(states)
        logits[-2:, ..., slice(None) if value == "-inf" else 9] = float(value)
        return logits

    own_model.lm_head.forward = spoilt
    with pytest.raises(UserError) as caught:
        answers(
            own_model,
            tokenizer,
            [prompts(tokenizer)[0]] * 3,
            batch_size=3,
            sampling=Sampling(temperature=temperature),
            keys=[11, 12, 13],
        )
    # rows are padded to four, so that the last two are question 13 and its copy
    assert str(caught.value) == (
        "the model in models/broken gives logits that are not finite in the answer to question 13, "
        "computed in float32; its weights hold NaN or infinite numbers, or are not those of this "
        "architecture"
    )


def test_the_advice_follows_from_the_dtype(own_model, tokenizer):
    own_model.half().lm_head.weight.data[:] = 60000  # sums overflow
    with pytest.raises(UserError) as caught:
        answers(own_model, tokenizer, prompts(tokenizer), batch_size=4)
    assert str(caught.value) == (
        "the model of type llama gives logits that are not finite in the answer to question "
        f"{str(caught.value).split('question ')[1][0]}, computed in float16; set dtype to bfloat16 "
        "or float32, or check the weights"
    )


def test_the_advice_is_a_wider_dtype():
    assert advise("float16") == "set dtype to bfloat16 or float32, or check the weights"
    assert advise("bfloat16") == "set dtype to float32, or check the weights"
    assert "dtype" not in advise("float32")


def test_entries_that_a_model_excludes_are_no_fault(own_model, tokenizer):
    """Padding of the vocabulary may have a logit of -inf."""
    ids = prompts(tokenizer)
    plain = answers(own_model, tokenizer, ids, batch_size=4)
    unused = max(set(range(384)) - {t for a in plain.values() for t in a.answer_ids})
    forward = own_model.lm_head.forward

    def masked(states):
        logits = forward(states)
        logits[..., unused] = -torch.inf
        return logits

    own_model.lm_head.forward = masked
    found = answers(own_model, tokenizer, ids, batch_size=4)
    for index, answer in plain.items():
        assert found[index].answer_ids == answer.answer_ids
        assert np.isfinite(found[index].log_probabilities).all()


def test_no_questions_give_no_batches(model, tokenizer):
    assert list(generate(model, tokenizer, [], **SETTINGS, batch_size=4)) == []


def test_the_prefix_leaves_a_token():
    assert shared_prefix([[1, 2, 3, 4, 5, 6, 8], [1, 2, 3, 4, 5, 7]]) == [1, 2, 3, 4]
    assert shared_prefix([[1, 2, 3, 4], [1, 2, 3, 4, 5]]) == []
    assert shared_prefix([[1, 2, 3, 4, 5]] * 2) == [1, 2, 3, 4]
