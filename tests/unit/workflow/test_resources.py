"""Estimates of what a job needs, held against what was measured."""

import gzip
import json
from dataclasses import replace

import pytest
import yaml

import families
import tiny
from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes
from llm_figures.inference import responses
from llm_figures.probe import fitting, stored_states
from llm_figures.probe.options import list_protocols
from llm_figures.questions.options import Dataset
from llm_figures.questions.questions import load_questions
from llm_figures.workflow import pass_costs, probe_costs, resources
from llm_figures.workflow.config import check_config
from llm_figures.workflow.model_size import estimate_parameters, find_model_size
from llm_figures.workflow.resources import estimate, gpus_needed, request, threads_needed
from llm_figures.workflow.workload import (
    UNKNOWN_QUESTIONS,
    count_questions,
    describe_workload,
)

MIB = 2**20
# Seconds, maximal resident memory in MiB and threads of every rule of the default model that runs
# on a node: the benchmarks of a run on two CPU cores, other jobs beside it; the last two from
# docs/module-map.md.
MEASURED = {
    "extract_attention_states": (7.49, 942.98, 1),
    "extract_choice_states": (14.15, 960.46, 1),
    "measure_modules": (7.79, 805.23, 1),
    "measure_updates": (79.78, 369.11, 1),
    "measure_quantization": (12.70, 466.72, 1),
    "generate_answers": (66.33, 1260.67, 2),
    "extract_hidden_states": (76.45, 1638.19, 1),
    "ask_p_true": (74.77, 1157.99, 1),
    "score_probes": (21.80, 841.25, 2),
    "extract_module_states": (48, 2000, 2),
    "score_module_probes": (20, 860, 2),
}
WRITTEN = {"extract_hidden_states": 564 * MIB, "extract_module_states": 525e6}
BIG = "llama-3-70b-instruct"


def asked(root, config, **changes):
    """The model's size and the run's work, of the default config with changes."""
    checked, entries = check_config({**config, **changes}, root / "config" / "models.yaml")
    (name, entry), *_ = entries.items()
    return find_model_size(name, entry), describe_workload(checked, list_protocols(checked))


@pytest.mark.parametrize("stage", MEASURED)
def test_an_estimate_is_an_upper_bound_within_four_of_what_was_measured(
    stage, root, default_config
):
    seconds, memory, threads = MEASURED[stage]
    need = estimate(stage, *asked(root, default_config), threads=threads)
    assert memory * MIB <= need.memory <= 4 * memory * MIB
    assert seconds <= need.seconds <= 4 * seconds
    assert need.gpus == 0
    if stage in WRITTEN:
        assert WRITTEN[stage] <= need.disk <= 4 * WRITTEN[stage]


def test_a_rule_without_a_row_needs_what_every_job_needs(root, default_config):
    new = estimate("a_new_rule", *asked(root, default_config))
    assert new == (resources.START, resources.BASE, resources.Cost().disk, 0)
    assert new == estimate("a_new_rule", *asked(root, default_config, model=BIG))


def test_answers_brought_along_need_memory_for_their_logits(root, default_config, tmp_path):
    assert pass_costs.PIECE == responses.PIECE
    path = tmp_path / "answers.csv"
    path.write_text("question,answer\n" + ("Who?," + "word " * 70 + "\n") * 1000)
    dataset = {**default_config["dataset"], "path": str(path), "response": "answer"}
    shape, work = asked(root, default_config, dataset=dataset)
    assert work.prompts["states"].own > 90  # whole rows of the file
    need = estimate("read_responses", shape, work)
    states = estimate("extract_hidden_states", shape, work)
    rows = default_config["batch_size"]
    assert need.memory >= resources.BASE + rows * 32 * shape.vocabulary * 4
    assert need.disk < states.disk / 10
    # max_new_tokens, which generation needs, is no matter
    prompt = {**default_config["prompt"], "max_new_tokens": 4096}
    longer = asked(root, default_config, dataset=dataset, prompt=prompt)
    assert estimate("read_responses", *longer) == need


def test_an_estimate_of_the_training_holds_for_the_demonstration(root, default_config):
    """Measured on one core, its own seconds, as others worked beside it."""
    seconds, memory, disk = 138.71, 3949.62, 517
    overlay = yaml.safe_load((root / "config" / "finetune-demo.yaml").read_text())
    changes = {key: overlay[key] for key in ("model_sources", "dataset")}
    (name,) = overlay["model_sources"]
    sizes = asked(root, default_config, **changes, model=name)
    assert sizes[0].parameters == 134515008  # as its base's
    need = estimate("finetune_model", *sizes, threads=1)
    assert seconds <= need.seconds <= 4 * seconds
    assert memory * MIB <= need.memory <= 4 * memory * MIB
    assert disk * MIB <= need.disk <= 4 * disk * MIB
    assert need.gpus == 0
    assert threads_needed("finetune_model", sizes[0]) == 8
    longer = {"smollm2-135m-facts": {**overlay["model_sources"][name], "steps": 160}}
    more = asked(root, default_config, **{**changes, "model_sources": longer}, model=name)
    assert estimate("finetune_model", *more, threads=1).seconds > 3 * need.seconds


def test_a_gguf_file_takes_memory_to_convert_and_a_folder_none(root, default_config):
    shape = {"parameters": 7 * 10**9, "layers": 32, "hidden_size": 4096, "heads": 32,
             "vocabulary": 32000, "intermediate_size": 11008, "dtype": "bfloat16"}  # fmt: skip
    far = {"source": "hub", "repo": "a/b", "revision": "0" * 40, "shape": shape}
    found = []
    for entry in (far, {**far, "file": "m.gguf"}):
        sizes = asked(root, default_config, model="far", model_sources={"far": entry})
        found.append(estimate("prepare_model", *sizes))
    assert found[0].memory < 2e9
    assert found[1].memory > 2 * 4 * 7 * 10**9


def test_a_further_attempt_has_more_memory_and_time(root, default_config):
    # small jobs, too, are killed for time and memory
    for stage in ("generate_answers", "judge_answers"):
        need = estimate(stage, *asked(root, default_config))
        first, second, third = (request(need, attempt) for attempt in (1, 2, 3))
        assert second["mem_mb"] == pytest.approx(1.5 * first["mem_mb"], abs=150)
        assert third["mem_mb"] == pytest.approx(2.25 * first["mem_mb"], abs=300)
        assert (
            (second["runtime"], third["runtime"])
            == (60, 120)
            == (
                2 * first["runtime"],
                4 * first["runtime"],
            )
        )
        assert first["mem_mb"] * 1e6 >= need.memory + resources.SNAKEMAKE


@pytest.mark.parametrize("stage", [*resources.TABLE, "judge_answers"])
@pytest.mark.parametrize("model", ["smollm2-135m", "mistral-7b-instruct", BIG])
def test_a_larger_model_needs_no_less(stage, model, root, default_config):
    shape, work = asked(root, default_config, model=model, device="cpu")
    shape = replace(shape, training={"steps": 40, "batch_size": 8, "share": 0.1})
    for larger in (
        replace(shape, parameters=2 * shape.parameters),
        replace(shape, layers=2 * shape.layers),
        replace(shape, hidden_size=2 * shape.hidden_size, parameters=4 * shape.parameters),
    ):
        need, more = estimate(stage, shape, work), estimate(stage, larger, work)
        assert all(now <= then for now, then in zip(need, more, strict=True))
    for more_work in (
        replace(work, questions=2 * work.questions),
        replace(work, batch_size=2 * work.batch_size),
    ):
        assert estimate(stage, shape, more_work).memory >= estimate(stage, shape, work).memory


def test_every_way_of_asking_for_p_true_takes_its_time(root, default_config):
    ask = default_config["probe"]["p_true"]
    variants = {"same": {"prompt": ask["prompt"]}, "short": {"prompt": "{question} {answer}"}}
    probe = default_config["probe"] | {"p_true": ask | {"variants": variants}}
    shape, work = asked(root, default_config)
    _, more = asked(root, default_config, probe=probe)
    before, after = (estimate("ask_p_true", shape, one) for one in (work, more))
    fixed = estimate("prepare_nothing", shape, work).seconds
    assert 1 < (after.seconds - fixed) / (before.seconds - fixed) < 3
    assert after.memory == before.memory


def test_shards_and_probe_jobs_divide_the_work(root, default_config):
    shape, work = asked(root, default_config)
    for stage, less in (
        ("generate_answers", replace(work, shards=8)),
        ("score_probes", replace(work, probe_jobs=8)),
    ):
        assert estimate(stage, shape, less).seconds < estimate(stage, shape, work).seconds


def test_gpus_by_the_size_of_the_model(root, default_config):
    small = asked(root, default_config)
    assert gpus_needed(*small) == 0
    assert request(estimate("generate_answers", *small))["gpu"] is None
    for model, gpus in (("mistral-7b-instruct", 1), (BIG, 3)):
        sizes = asked(root, default_config, model=model, dtype="bfloat16", batch_size=16)
        assert gpus_needed(*sizes) == gpus
        assert request(estimate("generate_answers", *sizes))["gpu"] == gpus
        # what fits no probe is not asked to
        assert request(estimate("score_probes", *sizes))["gpu"] is None
    shape, work = sizes
    assert gpus_needed(shape, replace(work, gpu_memory_gb=40)) == 5
    assert gpus_needed(shape, replace(work, gpus=8)) == 8
    assert gpus_needed(shape, replace(work, gpus=0)) == 0
    assert gpus_needed(shape, replace(work, device="cpu")) == 0
    # on the CPU the weights are in host memory, on GPUs they pass through it in pieces
    on_cpu = estimate("generate_answers", shape, replace(work, device="cpu"))
    on_gpus = estimate("generate_answers", shape, replace(work, device_map="auto"))
    assert on_cpu.memory > 141e9 > 4 * on_gpus.memory - 60e9


@pytest.mark.parametrize("number", ["two", -1, 1.5])
def test_gpus_are_auto_or_a_number(number, root, default_config):
    with pytest.raises(UserError, match=r"^config: gpus: "):
        asked(root, default_config, gpus=number)


def test_the_listed_sizes_give_the_listed_parameters(root):
    entries = yaml.safe_load((root / "config" / "models.yaml").read_text())
    shapes = {name: entry["shape"] for name, entry in entries.items() if "shape" in entry}
    assert len(shapes) >= 5
    for name, shape in shapes.items():
        biases = shape["layers"] * (28 + 2 * 4) * 128 if name.startswith("qwen2.5") else 0
        tied = name.startswith(("smollm2", "gemma3"))
        # of query and key, and after attention and feed-forward part
        norms = shape["layers"] * 2 * (256 + 640) if name.startswith("gemma3") else 0
        expected = estimate_parameters({**shape, "tied": tied}) + biases + norms
        assert expected == shape["parameters"], name


def test_a_layer_outside_a_model_is_named_before_its_download(root, default_config):
    figures = default_config["figures"]
    figures = figures | {"mean_qkv": figures["mean_qkv"] | {"layer": 32}}
    asked(root, default_config, figures=figures, model=BIG)
    with pytest.raises(UserError, match=r"figures.mean_qkv.layer: 32 is outside .* 0 to 31"):
        asked(root, default_config, figures=figures, model="mistral-7b-instruct")


LARGE_MODELS = {"mistral-7b-instruct": "7B", "llama-3-70b-instruct": "70B"}


def test_the_page_says_what_the_formulas_say_of_many_questions(root, default_config):
    rows = []
    for name, label in LARGE_MODELS.items():
        overlay = yaml.safe_load((root / "config" / f"{name}.yaml").read_text())
        changes = {
            key: {**default_config[key], **value} if isinstance(value, dict) else value
            for key, value in overlay.items()
        }
        for count in (1000, 20_000, 100_000):
            numbers = []
            for dtype in ("float32", "float16"):
                shape, work = asked(root, default_config, **changes, states_dtype=dtype)
                work = replace(work, questions=count)
                numbers.append(estimate("extract_hidden_states", shape, work).disk)
            single = replace(work, states_bytes=4)
            numbers += [
                estimate("score_probes", shape, single, threads=cores).memory for cores in (1, 8)
            ]
            cells = [label, f"{count:,}", *map(format_bytes, numbers)]
            rows.append(f"| {' | '.join(cells)} |")
    page = (root / "docs" / "large-models.md").read_text(encoding="utf-8")
    assert "\n".join(rows) in page, "\n".join(rows)


def test_float16_halves_the_states_and_no_more_than_them(root, default_config):
    one, other = (
        asked(root, default_config, states_dtype=dtype) for dtype in ("float32", "float16")
    )
    for stage in ("extract_hidden_states", "extract_module_states", "extract_sample_states"):
        full, half = estimate(stage, *one), estimate(stage, *other)
        assert half.disk == pytest.approx(full.disk / 2, rel=0.06)
        assert half.seconds < full.seconds
    for stage in ("generate_answers", "extract_attention_states", "check_probe_claims"):
        assert estimate(stage, *one) == estimate(stage, *other)
    assert estimate("score_probes", *other).memory < estimate("score_probes", *one).memory


def test_probes_of_many_questions_need_what_they_were_measured_to_need(root, default_config):
    """benchmarks/growth_probes.py, 576 features: MiB of one process, of which each has two tokens.

    It reads the two at once, a job as many of seventeen as fit.
    """
    assert probe_costs.AT_ONCE == stored_states.AT_ONCE
    assert probe_costs.TOGETHER == fitting.TOGETHER
    shape, work = asked(root, default_config)
    for count, mib in ((1000, 276), (4000, 377), (20_000, 776), (100_000, 1579)):
        many = replace(work, questions=count)
        token = 4 * 576 * count
        more = min(stored_states.AT_ONCE, 15 * token) - min(stored_states.AT_ONCE, 2 * token)
        need = estimate("score_probes", shape, many, threads=1)
        assert mib * MIB + more <= need.memory <= 4 * (mib * MIB + more)
    # a layer at a time, whatever their number
    deep = replace(shape, layers=4 * shape.layers)
    for stage in ("score_probes", "collect_probe_scores", "check_probe_claims"):
        assert estimate(stage, deep, many).memory == estimate(stage, shape, many).memory


def test_where_a_models_size_is_known_from(tmp_path):
    folder = tiny.save(tmp_path / "model")
    parameters = sum(weight.numel() for weight in tiny.model().parameters())
    entry = {"source": "path", "path": str(folder)}
    shape = find_model_size("tiny", entry, tmp_path)
    assert shape.parameters == parameters
    assert (shape.layers, shape.heads, shape.key_value_heads, shape.head_dim) == (3, 4, 2, 12)
    assert shape.origin == str(folder / "config.json")
    # the model info of an earlier run comes first, as long as it is of the same entry
    hub = {"source": "hub", "repo": "a/b", "revision": "0" * 40}
    model_info = {"entry": hub, "parameters": 7, "layers": 5, "hidden_size": 8, "heads": 2}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.json").write_text(json.dumps(model_info))
    stated = {"parameters": 9, "layers": 4, "hidden_size": 8, "heads": 2, "vocabulary": 10}
    stated["intermediate_size"] = 16
    assert find_model_size("b", hub | {"shape": stated}, tmp_path).parameters == 7
    other = hub | {"revision": "1" * 40, "shape": stated}
    assert find_model_size("b", other, tmp_path).parameters == 9
    unknown = find_model_size("c", hub, tmp_path)
    assert unknown.parameters > 7e9
    assert unknown.origin == "assumed, as no size is known"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "json", "jsonl.gz", "long"])
def test_questions_are_counted(kind, tmp_path, monkeypatch):
    path = tmp_path / f"mine.{'jsonl' if kind == 'long' else kind}"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"question": ["why?"] * 300}), path)
    elif kind == "json":
        path.write_text(json.dumps([{"ask": "why?"}] * 300))
    elif kind == "jsonl.gz":
        rows = [json.dumps({"ask": f"{'why? ' * 30} {number}"}) for number in range(300)]
        path.write_bytes(gzip.compress("\n".join(rows).encode()))
    else:
        path.write_text("question\n" * (kind == "csv") + '{"question": "why?"}\n' * 300)
    if kind == "long":
        monkeypatch.setattr("llm_figures.workflow.workload.SAMPLE", 1000)
    dataset = {"source": "path", "path": str(path), "hold_out": None, "limit": None}
    dataset["question"] = "ask"
    count, _, origin = count_questions(dataset)
    assert 300 <= count <= (306 if kind == "long" else 302)
    assert path.name in origin
    assert count_questions({**dataset, "limit": 50})[0] == 50
    assert count_questions({**dataset, "limit": 50, "hold_out": str(path)})[0] == 50 + count


def test_questions_that_are_not_here_are_assumed():
    dataset = {"source": "hub", "hold_out": None, "limit": None}
    assert count_questions(dataset)[0] == UNKNOWN_QUESTIONS
    assert count_questions({**dataset, "limit": 500})[0] == 500
    missing = {"source": "path", "path": "nowhere.jsonl", "hold_out": None, "limit": None}
    assert count_questions(missing)[0] == UNKNOWN_QUESTIONS


def test_built_in_questions_are_as_many_as_assumed(root, default_config):
    checked, _ = check_config(default_config, root / "config" / "models.yaml")
    questions, _ = load_questions(Dataset(**checked["dataset"]), checked["prompt"]["preamble"])
    assert len(questions) == count_questions(checked["dataset"])[0]


def test_threads(root, default_config):
    small, _ = asked(root, default_config)
    large, _ = asked(root, default_config, model=BIG)
    assert threads_needed("measure_modules", small) == 1
    assert threads_needed("measure_modules", large) == 8
    assert threads_needed("score_probes", small) == 8
    assert threads_needed("judge_answers", large) == 1


def test_long_texts_need_what_they_were_measured_to_need(root, default_config):
    """One text of 8,192 tokens, as in benchmarks/growth.py, on the default model."""
    shape, work = asked(root, default_config, inputs=["x" * 28672])
    assert work.texts == (8192,)
    # MiB held; seconds beside one another's programs say little, so they are not compared
    measured = {"extract_attention_states": 1409, "score_attention": 325}
    measured["check_attention_claims"] = 487
    short = asked(root, default_config)
    for stage, memory in measured.items():
        need = estimate(stage, shape, work)
        assert memory * MIB <= need.memory <= 4 * memory * MIB
        assert need.seconds > estimate(stage, *short).seconds
    # a layer at a time: twice as many layers take no more memory but for the weights
    deeper = estimate("extract_attention_states", replace(shape, layers=2 * shape.layers), work)
    more = deeper.memory - estimate("extract_attention_states", shape, work).memory
    cache = 2 * 8192 * 2 * shape.layers * shape.key_value_heads * shape.head_dim * 4
    assert more <= 1.01 * cache


def test_masks_that_a_family_keeps_are_requested(root, default_config, tmp_path):
    """Measured on a tiny Inkling of 12 layers and 8 heads, and a text of 3,000 tokens."""
    _, work = asked(root, default_config)
    work = replace(work, texts=(3000,))
    config = families.tiny_config("inkling_text", num_attention_heads=8, num_key_value_heads=2)
    config.save_pretrained(tmp_path)
    inkling = find_model_size("mine", {"source": "path", "path": str(tmp_path)}, tmp_path)
    assert inkling.mask_heads == 8
    plain = replace(inkling, mask_heads=0)
    measured = {"extract_attention_states": 2491, "score_attention": 1507}
    for stage, memory in measured.items():
        assert memory * MIB <= estimate(stage, inkling, work).memory <= 2 * memory * MIB
    held = (*measured, "extract_intervened_states", "extract_choice_states")
    for stage in (*held, "check_attention_claims", "compare_choices"):
        more = estimate(stage, inkling, work).memory - estimate(stage, plain, work).memory
        assert more >= 8 * 4 * 8 * 3000**2
    assert estimate("generate_answers", inkling, work) == estimate("generate_answers", plain, work)


@pytest.mark.parametrize(
    ("family", "heads"),
    [
        ("axk2", 1),
        ("deepseek_v32", 1),
        ("doge", 4),
        ("dots3_note_text", 1),
        ("glm5_next", 1),
        ("glm_moe_dsa", 1),
        ("hy_v4", 1),
        ("inkling2_text", 4),
        ("inkling_text", 4),
        ("llama4_text", 1),
        ("minimax_m3_vl", 4),
        ("minimax_m3_vl_text", 4),
        ("mistral_large4", 1),
        ("qwen4_exp_text", 1),
        ("llama", 0),
        ("mistral", 0),
        ("gemma3n_text", 0),
        ("deepseek_v3", 0),
    ],
)
def test_masks_of_their_own_stand_in_the_config(family, heads, tmp_path):
    """As the captured biases of these families have them."""
    families.tiny_config(family).save_pretrained(tmp_path)
    size = find_model_size("mine", {"source": "path", "path": str(tmp_path)}, tmp_path)
    assert size.mask_heads == heads
