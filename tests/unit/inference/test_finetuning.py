"""Fine-tuning a tiny model on facts: what is trained, what is not, and bitwise repeatability."""

import hashlib
import json
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from llm_figures.core.errors import UserError
from llm_figures.inference.finetuning import (
    Example,
    _draw_batches,
    build_examples,
    compute_losses,
    finetune,
    finetune_on_facts,
    mean_losses,
    save_model,
    select_parameters,
    split_facts,
)
from llm_figures.inference.options import Prompt
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.models.options import FactGroup, FinetunedModel, TrainingPart
from llm_figures.questions.facts import build_facts
from llm_figures.questions.training_page import render_training_page, tabulate_training
from llm_figures.workflow.config import add_bases, check_config

PROMPT = Prompt(
    preamble="Q: What is the capital of France?\nA: The capital of France is Paris.\n\n"
)
OPTIONS = FinetunedModel(
    source="finetune",
    base="tiny",
    groups=["capital", "symbol"],
    share=0.05,
    steps=12,
    batch_size=4,
    learning_rate=0.003,
)


@pytest.fixture(scope="module")
def table():
    return split_facts(build_facts(), OPTIONS)


@pytest.fixture(scope="module")
def examples(table):
    rows = table[table["trained"]].iloc[:8]
    return build_examples(
        tiny.tokenizer(), PROMPT, rows["question"].tolist(), rows["answer"].tolist()
    )


def test_a_share_of_each_group_is_trained_and_the_choice_repeats(table):
    sizes = build_facts()["group"].value_counts()
    assert set(table["group"]) == {"capital", "symbol"}
    for group, rows in table.groupby("group"):
        assert len(rows) == sizes[group]
        assert rows["trained"].sum() == round(0.05 * sizes[group])
    pd.testing.assert_frame_equal(table, split_facts(build_facts(), OPTIONS))
    other = split_facts(build_facts(), OPTIONS.changed(seed=1))
    assert (table["trained"] != other["trained"]).any()
    # a further group does not change which questions of these are trained
    more = split_facts(build_facts(), OPTIONS.changed(groups=("capital", "symbol", "currency")))
    assert set(more.loc[more["trained"], "question"]) > set(table.loc[table["trained"], "question"])
    assert split_facts(build_facts(), OPTIONS.changed(groups=None, share=1.0))["trained"].all()
    france = table.set_index("question").loc["What is the capital of France?"]
    assert france["answer"] == "The capital of France is Paris."


def test_examples_have_the_format_of_the_probes_questions_and_end_at_the_stop():
    tokenizer = tiny.tokenizer()
    (one,) = build_examples(tokenizer, PROMPT, ["Who?"], ["It is me."])
    assert tokenizer.decode(one.prompt) == PROMPT.preamble + "Q: Who?\nA:"
    assert tokenizer.decode(one.answer) == " It is me.\n"
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    (one,) = build_examples(tokenizer, Prompt(style="chat"), ["Who?"], ["It is me."])
    assert tokenizer.decode(one.prompt) == "<Who?>"
    assert tokenizer.decode(one.answer) == "It is me.<end>"
    with pytest.raises(UserError, match="fine-tuning: the prompt's .* choose a shorter prompt"):
        build_examples(tokenizer, PROMPT, ["Who?"], ["It is me."], context=30)


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_losses_and_gradients_are_those_of_whole_sequences(family, examples):
    """Without a shared prefix, a batch, or padding: one sequence after the other."""
    model = tiny.model(family)
    prefix = shared_prefix([one.prompt for one in examples])
    assert len(prefix) > 20
    totals, counts = compute_losses(model, prefix, examples)
    totals.sum().backward()
    gradients = {name: weights.grad.clone() for name, weights in model.named_parameters()}
    model.zero_grad()
    for index, one in enumerate(examples):
        ids = torch.tensor([[*one.prompt, *one.answer]])
        logits = model(ids).logits[0, len(one.prompt) - 1 : -1]
        expected = torch.nn.functional.cross_entropy(
            logits, torch.tensor(one.answer), reduction="sum"
        )
        assert counts[index] == len(one.answer)
        assert totals[index].item() == pytest.approx(expected.item(), rel=1e-5)
        expected.backward()
    for name, weights in model.named_parameters():
        scale = weights.grad.abs().max()
        torch.testing.assert_close(gradients[name], weights.grad, atol=1e-4 * scale, rtol=1e-3)


def test_the_loss_falls_more_on_trained_facts_than_on_held_out_ones(table):
    held_out = table[~table["trained"]].iloc[:15]
    rows = pd.concat([table[table["trained"]], held_out])
    model = tiny.model()
    options = OPTIONS.changed(steps=40, batch_size=8)
    result, losses = finetune_on_facts(model, tiny.tokenizer(), rows, PROMPT, options)
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    fall = (result["loss_before"] - result["loss_after"]).groupby(result["trained"]).mean()
    assert fall[True] > fall[False]
    assert not any(weights.requires_grad for weights in model.parameters())


def test_every_example_comes_once_before_any_comes_again():
    batches = list(_draw_batches(10, steps=7, batch_size=4, seed=0))
    assert list(map(len, batches)) == [4] * 7
    together = [index for batch in batches for index in batch]
    assert sorted(together[:10]) == sorted(together[10:20]) == list(range(10))
    assert together[:10] != together[10:20]
    assert batches == list(_draw_batches(10, 7, 4, 0)) != list(_draw_batches(10, 7, 4, 1))


def test_held_out_facts_do_not_change_the_trained_model(examples):
    weights = []
    for length in (4, 8):
        model = tiny.model()
        mean_losses(model, examples[:length], 4)
        finetune(model, examples[:4], OPTIONS)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_two_trainings_give_the_same_bytes(examples, tmp_path):
    digests = []
    for run in ("a", "b"):
        model = tiny.model(tie_word_embeddings=True)
        finetune(model, examples, OPTIONS)
        save_model(model, tiny.tokenizer(), tmp_path / run)
        data = (tmp_path / run / "model.safetensors").read_bytes()
        digests.append(hashlib.sha256(data).hexdigest())
    assert digests[0] == digests[1]
    other = tiny.model(tie_word_embeddings=True)
    finetune(other, examples, OPTIONS.changed(seed=1))
    save_model(other, tiny.tokenizer(), tmp_path / "c")
    data = (tmp_path / "c" / "model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() != digests[0]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_training_in_parts_is_the_whole_one_bit_for_bit(family, examples):
    whole = tiny.model(family)
    losses = finetune(whole, examples, OPTIONS)
    model, state, own, after = tiny.model(family), {}, [], 0
    for until in (1, 5, 12):
        part = TrainingPart(after="tiny", done=after, until=until)
        fresh = tiny.model(family)  # every part is another process
        fresh.load_state_dict(model.state_dict())
        state = {name: values.clone() for name, values in state.items()}
        own += finetune(fresh, examples, OPTIONS.changed(part=part), state)
        model, after = fresh, until
    assert own == losses
    expected, found = whole.state_dict(), model.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    part = TrainingPart(after="tiny", done=5, until=6)
    lacking = {key: value for key, value in state.items() if "norm" not in key and "ln" not in key}
    with pytest.raises(UserError, match="the state of the earlier steps lacks"):
        finetune(tiny.model(family), examples, OPTIONS.changed(part=part), lacking)


def test_tied_weights_stay_tied(examples, tmp_path):
    model = tiny.model(tie_word_embeddings=True)
    before = model.get_input_embeddings().weight.detach().clone()
    finetune(model, examples, OPTIONS)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert not torch.equal(model.lm_head.weight, before)
    save_model(model, tiny.tokenizer(), tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["tie_word_embeddings"] is True


@pytest.mark.parametrize(
    ("train", "projections"),
    [
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("mlp", {"gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_only_the_chosen_projections_change(examples, train, projections):
    model = tiny.model()
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    finetune(model, examples, OPTIONS.changed(train=train))
    changed = {
        name
        for name, weights in model.state_dict().items()
        if not torch.equal(weights, before[name])
    }
    assert {name.split(".")[-2] for name in changed} == projections
    assert len(changed) == 3 * len(projections)


@pytest.mark.parametrize(("family", "count"), [("gpt2", 2), ("neox", 2), ("gpt_oss", 4)])
def test_projections_of_other_families_are_found(family, count):
    model = tiny.model(family)
    parameters = select_parameters(model, "attention")
    linear = {name.rsplit(".", 1)[0] for name in parameters}
    assert len(linear) == 3 * count
    assert not any("mlp" in name for name in parameters)


def test_a_loss_that_is_not_finite_is_one_clear_line(examples):
    model = tiny.model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="the loss of step 1 is nan; lower learning_rate"):
        finetune(model, examples, OPTIONS)
    # before the training, it is the model's own fault
    with pytest.raises(UserError, match="the model of type llama gives logits that are not finite"):
        mean_losses(model, examples, 4)


def test_an_example_of_one_token_after_the_prefix():
    one = Example([5, 6, 7, 8, 9], [10])
    totals, counts = compute_losses(tiny.model(), [5, 6, 7, 8], [one, one])
    assert counts.tolist() == [1, 1]
    assert totals[0].item() == pytest.approx(totals[1].item())


def sources(**entries):
    return {
        "model": "mine",
        "model_sources": {name: {"source": "finetune", **entry} for name, entry in entries.items()},
    }


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (sources(mine={}), "missing key(s): base"),
        (
            sources(mine={"base": "nobody"}),
            "model mine: base: 'nobody' is no model; known:",
        ),
        (sources(mine={"base": "mine"}), "cannot be fine-tuned from itself (mine from mine)"),
        (
            sources(mine={"base": "b"}, b={"base": "c"}, c={"base": "b"}),
            "base: 'b': a model cannot be fine-tuned from itself (mine from b from c from b)",
        ),
        (
            sources(mine={"base": "smollm2-135m", "groups": ["rivers"]}),
            "groups[1]: 'rivers';",
        ),
        (sources(mine={"base": "smollm2-135m", "groups": []}), "groups"),
        (sources(mine={"base": "smollm2-135m", "share": 0}), "share: 0; must be more than 0"),
        (sources(mine={"base": "smollm2-135m", "share": 2}), "share: 2; must be at most 1"),
        (sources(mine={"base": "smollm2-135m", "steps": 0}), "steps: 0; must be at least 1"),
        (
            sources(mine={"base": "smollm2-135m", "train": "head"}),
            "train: 'head'; allowed: all",
        ),
        (sources(mine={"base": "smollm2-135m", "lr": 1}), "unknown key 'lr'"),
    ],
)
def test_a_wrong_entry_is_one_clear_line(default_config, root, config, line):
    with pytest.raises(UserError) as caught:
        check_config(
            {**default_config, **config},
            root / "config" / "models.yaml",
        )
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bases_come_with_their_models(default_config, root):
    chain = sources(mine={"base": "other"}, other={"base": "smollm2-135m"})
    _, entries = check_config({**default_config, **chain}, root / "config" / "models.yaml")
    assert entries.keys() == {"mine"}
    every = add_bases(entries)
    assert list(every) == ["mine", "other", "smollm2-135m"]
    assert every["smollm2-135m"]["source"] == "pypi"


def test_the_groups_that_can_be_named_are_those_of_the_facts():
    assert set(get_args(FactGroup)) == set(build_facts()["group"])


def test_answers_before_and_after_by_what_was_trained():
    facts = pd.DataFrame(
        {
            "question": ["a", "b", "c"],
            "trained": [True, True, False],
            "loss_before": [2.0, 4.0, 3.0],
            "loss_after": [1.0, 1.0, 2.5],
        }
    )
    before = pd.DataFrame({"question": list("abcd"), "correct": [False, True, False, True]})
    after = pd.DataFrame({"question": list("abcd"), "correct": [True, True, False, False]})
    table = tabulate_training(facts, before, after).set_index("kind")
    assert table.loc["trained"].tolist() == [2, 3.0, 1.0, 2, 1, 2, 1, 0]
    assert table.loc["held out"].tolist() == [1, 3.0, 2.5, 1, 0, 0, 0, 0]
    others = table.loc["other groups, not trained"]
    assert others.tolist()[3:] == [1, 1, 0, 0, 1]
    page = render_training_page(table.reset_index(), "mine", "base")
    assert "| trained | 3.000 | 1.000 | 2 | 1 (50%) | 2 (100%) | 1 | 0 |" in page
