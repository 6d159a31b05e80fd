import pytest
import torch

import tiny
from llm_figures.errors import UserError
from llm_figures.generation import _generation, equal_lengths, generate, tokenize_prompts
from llm_figures.prefix import shared_prefix
from llm_figures.tokens import named_positions

PREAMBLE = "Q: What is the capital of France?\nA: Paris.\n"
QUESTIONS = ["one", "the lamp", "the lake", "a tree?", "what is the capital", "evening", "winter?"]
SETTINGS = {"stop": "\n", "max_new_tokens": 7}


@pytest.fixture(scope="module", params=["llama", "mistral"])
def model(request):
    return tiny.model(request.param)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def prompts(tokenizer):
    return tokenize_prompts(
        tokenizer,
        [f"{PREAMBLE}Q: {question}\nA:" for question in QUESTIONS],
        longest=512,
        max_new_tokens=7,
    )


def answers(model, tokenizer, ids, **settings):
    batches = generate(model, tokenizer, ids, **{**SETTINGS, **settings})
    return {answer.index: answer for batch in batches for answer in batch}


def test_answers_are_those_of_transformers_own_greedy_search(model, tokenizer):
    ids = prompts(tokenizer)
    found = answers(model, tokenizer, ids, batch_size=3)
    assert sorted(found) == list(range(len(QUESTIONS)))
    for index, prompt in enumerate(ids):
        with torch.inference_mode():
            expected = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt)),
                max_new_tokens=7,
                do_sample=False,
            )[0, len(prompt) :].tolist()
        text = tokenizer.decode([token for token in expected if token != tokenizer.eos_token_id])
        assert found[index].text == text.split("\n")[0]
        assert found[index].answer_ids == expected[: len(found[index].answer_ids)]


def test_batch_size_changes_no_answer(model, tokenizer):
    ids = prompts(tokenizer)
    assert answers(model, tokenizer, ids, batch_size=1) == answers(
        model, tokenizer, ids, batch_size=64
    )


def test_token_offsets_cover_the_text(model, tokenizer):
    for answer in answers(model, tokenizer, prompts(tokenizer), batch_size=4).values():
        pieces = [
            answer.text[start:end] for start, end in zip(answer.starts, answer.ends, strict=True)
        ]
        assert "".join(pieces) == answer.text
        assert len(pieces) == len(answer.answer_ids)


def test_the_stop_is_no_part_of_the_answer(model, tokenizer):
    ids = prompts(tokenizer)
    free = answers(model, tokenizer, ids, batch_size=4, stop="<never>")
    longest = max(free.values(), key=lambda answer: len(answer.text))
    stop = longest.text[len(longest.text) // 2]
    cut = answers(model, tokenizer, ids, batch_size=4, stop=stop)[longest.index]
    assert cut.text == longest.text.split(stop)[0]
    assert len(cut.answer_ids) < len(longest.answer_ids)
    assert cut.answer_ids == longest.answer_ids[: len(cut.answer_ids)]


def test_a_prompt_longer_than_the_context_is_named(tokenizer):
    with pytest.raises(UserError, match=r"question 2 has \d+ tokens .* the model takes 8"):
        tokenize_prompts(tokenizer, ["a", "what is the capital of France, again?"], 8, 4)
    assert tokenize_prompts(tokenizer, ["a"], longest=5, max_new_tokens=4)
    with pytest.raises(UserError, match="question 1 has 1 tokens and its answer up to 5"):
        tokenize_prompts(tokenizer, ["a"], longest=5, max_new_tokens=5)


def test_a_character_of_several_tokens_is_covered_by_its_first(tokenizer):
    ids = tokenizer(" is Łódź.")["input_ids"]
    answer = _generation(tokenizer, 0, [1], ids, set(), "\n")
    assert len(answer.answer_ids) > len(answer.text) - 3  # every accented letter is two tokens
    positions = named_positions(0, answer.starts, answer.ends, (4, 8))
    first = positions["exact_answer_first"]
    assert tokenizer.decode(ids[:first]) == " is "
    assert positions["exact_answer_before_first"] == first - 1


def test_no_questions_give_no_batches(model, tokenizer):
    assert list(generate(model, tokenizer, [], **SETTINGS, batch_size=4)) == []


def test_batches_hold_one_length_and_the_prefix_leaves_a_token():
    sequences = [[1, 2, 3], [1, 2], [1, 2, 4], [1, 2, 5]]
    assert equal_lengths(sequences, 2) == [[1], [0, 2], [3]]
    assert shared_prefix(sequences) == [1]
    assert shared_prefix([[1, 2], [1, 2]]) == [1]
