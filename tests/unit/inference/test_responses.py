"""Answers that a dataset brings along have the tokens and probabilities of generated ones."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import generate_answers
import read_responses
import tiny
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.inference import responses
from llm_figures.inference.generation import generate
from llm_figures.inference.options import Prompt, QuestionFormat
from llm_figures.inference.prompts import render_questions
from llm_figures.inference.responses import (
    add_space,
    compute_log_probabilities,
    tokenize_response,
)
from llm_figures.models.options import Runtime
from llm_figures.models.sources import prepare_model

PREAMBLE = "Q: What is the capital of France?\nA: Paris.\n"
QUESTIONS = ["one", "the lamp", "the lake", "a tree?", "what is the capital", "evening", "winter?"]
CHAT = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}<|assistant|>\n"


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2", "gpt_oss"])
def test_log_probabilities_are_those_of_a_plain_pass_and_of_generation(family):
    """The longest answers are several pieces; windows are of five tokens."""
    model, tokenizer = tiny.model(family), tiny.tokenizer()
    prompts = [tokenizer(f"{PREAMBLE}Q: {question}\nA:")["input_ids"] for question in QUESTIONS]
    generated = {
        answer.index: answer
        for batch in generate(
            model, tokenizer, prompts, stop=["x", "q"], max_new_tokens=80, batch_size=3
        )
        for answer in batch
    }
    answers = [generated[index].answer_ids for index in range(len(QUESTIONS))]
    answers[0] = answers[0][:1]
    assert max(map(len, answers)) > 2 * responses.PIECE
    found = {
        index: logs
        for batch, rows in compute_log_probabilities(model, prompts, answers, batch_size=3)
        for index, logs in zip(batch, rows, strict=True)
    }
    assert sorted(found) == list(range(len(QUESTIONS)))
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        assert len(found[index]) == len(answer)
        np.testing.assert_allclose(
            found[index], generated[index].log_probabilities[: len(answer)], rtol=0, atol=1e-5
        )
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        plain = logits.double().log_softmax(dim=-1)[range(len(answer)), answer]
        np.testing.assert_allclose(found[index], plain, rtol=0, atol=1e-4)


def test_no_batch_and_no_shard_changes_a_bit():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    prompts = [tokenizer(f"{PREAMBLE}Q: {question}\nA:")["input_ids"] for question in QUESTIONS]
    answers = [[5 + index] * (12 * index + 1) for index in range(len(QUESTIONS))]
    prefix = tokenizer(PREAMBLE)["input_ids"][:8]

    def found(batch_size, rows):
        return {
            rows[at]: logs
            for batch, several in compute_log_probabilities(
                model,
                [prompts[row] for row in rows],
                [answers[row] for row in rows],
                batch_size=batch_size,
                prefix=prefix,
            )
            for at, logs in zip(batch, several, strict=True)
        }

    everything = found(64, list(range(len(QUESTIONS))))
    assert found(1, list(range(len(QUESTIONS)))) == everything
    assert found(2, [1, 3, 5]).items() <= everything.items()


def test_an_answer_may_fill_the_context():
    model = tiny.model("gpt2", max_position_embeddings=20)
    (batch,) = compute_log_probabilities(model, [[3] * 9], [[4] * 11], batch_size=1)
    assert len(batch[1][0]) == 11


def test_logits_that_are_no_numbers_are_refused():
    model = tiny.model()
    model.lm_head.weight.data[7] = float("nan")
    with pytest.raises(UserError, match="gives logits that are not finite in the answer to quest"):
        list(compute_log_probabilities(model, [[3, 4]], [[5]], batch_size=1, keys=[12]))


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        ("A:", "Paris", " Paris"),
        ("A:", " Paris", " Paris"),
        ("A:", "\nParis", "\nParis"),
        ("A: ", "Paris", "Paris"),
        ("A:\n", "Paris", "Paris"),
        ("The capital is", "Paris", " Paris"),
        ("The capital is", ", I think, Paris", ", I think, Paris"),
        ("The capital is", "...", "..."),
        ("It is called", '"Paris"', ' "Paris"'),
        ('It is called "', 'Paris"', 'Paris"'),
        ("(It is “", "Paris", "Paris"),
        ('Translate "chien"', "dog", " dog"),
        ("答：", "北京", "北京"),
        ("答：", "Paris", "Paris"),
        ("A:", "北京", "北京"),
        ("首都", "북", "북"),
        ("A:", "「北京」", "「北京」"),
        ("A:", "กรุงเทพ", "กรุงเทพ"),
        ("A:", "서울", " 서울"),
        ("A:", "Москва", " Москва"),
        ("A:", "दिल्ली", " दिल्ली"),
        ("A:", "القاهرة", " القاهرة"),
        ("A:", "🎉", " 🎉"),
        ("A:", "-5", " -5"),
        ("", "Paris", "Paris"),
    ],
    ids=ascii,
)
def test_a_space_comes_between_words_alone(prompt, response, expected):
    assert add_space("few_shot", prompt, response) == expected
    assert add_space("chat", prompt, response) == response


def tokens(tokenizer, style, prompt, response):
    ids, spans = tokenize_response(tokenizer, style, prompt, response)
    return tokenizer.convert_ids_to_tokens(ids), spans and spans.text


def test_a_tokenizer_that_puts_a_space_itself_gets_none():
    tokenizer = tiny.byte_fallback_tokenizer()
    words = tokenizer.convert_ids_to_tokens(
        tokenizer("A: the old", add_special_tokens=False).input_ids
    )
    word = words[words.index(":") + 1 :]
    for response in ("the old", " the old"):
        assert tokens(tokenizer, "few_shot", "A:", response) == (word, "the old")
    assert tokens(tokenizer, "chat", "[/INST]", "the old") == (word, "the old")
    # after a new line no space is generated, nor before a letter of a script without spaces
    assert tokens(tokenizer, "chat", "<|assistant|>\n", "old") == (["o", "ld"], "old")
    bytes_of = [f"<0x{byte:02X}>" for byte in "北".encode()]
    assert tokens(tokenizer, "completion", "A:", "北") == (bytes_of, "北")
    assert tokens(tokenizer, "few_shot", "A:", "  old")[1] == " old"


def test_names_of_special_tokens_stay_text():
    tokenizer = tiny.tokenizer()
    ids, spans = tokenize_response(tokenizer, "few_shot", "A:", "the <end> is")
    assert tokenizer.eos_token_id not in ids
    assert spans.text == " the <end> is"


def test_a_text_that_the_tokenizer_changes_is_not_shifted():
    from tokenizers import normalizers

    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert tokenize_response(tokenizer, "few_shot", "A:", "Old")[1] is None
    assert tokenize_response(tokenizer, "few_shot", "A:", "old")[1].text == " old"


@pytest.fixture
def model_info(tmp_path):
    entry = {
        "source": "path",
        "path": str(tiny.save(tmp_path / "model", max_position_embeddings=90)),
    }
    entry |= {"trust_remote_code": False, "safetensors_only": True}
    path = tmp_path / "model.json"
    path.write_text(json.dumps(prepare_model("tiny", entry)))
    return str(path)


def run(script, model_info, folder, questions, prompt, shards=1):
    write_frame(questions, str(folder / "questions.parquet"))
    files = []
    for shard in range(shards):
        files.append(str(folder / f"{script.__name__}-{shard}.parquet"))
        script.main(
            model_info,
            str(folder / "questions.parquet"),
            files[-1],
            (shard, shards),
            prompt,
            4,
            Runtime(),
            1,
        )
    return pd.concat(map(read_frame, files)).sort_values("question_id", ignore_index=True)


def test_a_generated_answer_brought_back_is_the_same(tmp_path, model_info):
    """Its ids, too, where they are those of the text; a random model spells as it likes."""
    questions = pd.DataFrame({"question_id": range(7), "question": QUESTIONS})
    prompt = Prompt(preamble=PREAMBLE, max_new_tokens=12)
    tokenizer = tiny.tokenizer()
    generated = run(generate_answers, model_info, tmp_path, questions, prompt)
    first = run(
        read_responses,
        model_info,
        tmp_path,
        questions.assign(response=[f" {text or 'old'}" for text in generated["answer"]]),
        QuestionFormat(preamble=PREAMBLE),
        shards=2,
    )
    assert first["problem"].tolist() == [""] * 7
    assert not first["cut"].any()
    assert generated["cut"].tolist() == [len(ids) == 12 for ids in generated["answer_ids"]]
    for ids, starts, ends, answer in zip(
        first["answer_ids"],
        first["token_starts"],
        first["token_ends"],
        first["answer"],
        strict=True,
    ):
        assert list(ids) == tokenizer(answer)["input_ids"]
        assert starts[0] == 0
        assert ends[-1] == len(answer)
    again = run(
        read_responses,
        model_info,
        tmp_path,
        questions.assign(response=first["answer"]),
        QuestionFormat(preamble=PREAMBLE),
    )
    pd.testing.assert_frame_equal(again, first)
    for made, read in zip(generated["prompt_ids"], first["prompt_ids"], strict=True):
        assert list(made) == list(read)


@pytest.mark.parametrize("style", ["few_shot", "chat"])
def test_the_tokens_of_a_greedy_answer_come_back(style):
    """A model that spells as the tokenizer does: ids, spans and log-probabilities are the same."""
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = CHAT
    model = tiny.model()
    prompt = QuestionFormat(style=style, preamble=PREAMBLE)
    (text,) = render_questions(tokenizer, prompt, ["What is the capital of France?"])
    prompt_ids = tokenizer(text)["input_ids"]
    answer = " The capital of France is Łódź." if style == "few_shot" else "The lamp, 北京."
    wanted = tokenizer(answer)["input_ids"]
    steps = iter(wanted)
    head = model.lm_head.forward

    def spell(states):
        logits = head(states)
        token = next(steps)
        logits[..., token] = logits.max() + 1
        return logits

    model.lm_head.forward = spell
    ((generated,),) = generate(
        model, tokenizer, [prompt_ids], stop=["<never>"], max_new_tokens=len(wanted), batch_size=1
    )
    assert generated.answer_ids == wanted
    assert generated.text == answer
    ids, spans = tokenize_response(tokenizer, style, text, generated.text.strip())
    assert ids == generated.answer_ids
    assert spans == (generated.text, generated.starts, generated.ends)


def test_responses_that_cannot_be_used_are_problem_rows(tmp_path, model_info):
    questions = pd.DataFrame(
        {
            "question_id": range(3),
            "question": ["one", "two", "three"],
            "response": ["old", "x" * 100, "the lamp"],
        }
    )
    found = run(read_responses, model_info, tmp_path, questions, QuestionFormat(style="completion"))
    assert found["answer"].tolist() == [" old", "x" * 100, " the lamp"]
    prompt, answer = len(found["prompt_ids"][1]), 101
    assert found["problem"].tolist() == [
        "",
        f"the prompt's {prompt} tokens and the answer's {answer} exceed the model's context of 90",
        "",
    ]
    assert len(found["answer_ids"][1]) == 0
    assert not found["cut"].any()
