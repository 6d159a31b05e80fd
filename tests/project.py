"""A working directory from which the workflow is run as a user runs it, on a tiny random model."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys

import yaml

import tiny
from llm_figures.claims.figures import FIGURES
from llm_figures.inference.generation import generate

TEMPLATE = "Q: {question}\nA:"
PREAMBLE = "Q: What is the capital of France?\nA: Paris.\n"
# A second model, for tests that need two.
OTHER_MODEL = {"seed": 1, "num_hidden_layers": 2}
OVERLAY = {
    "model": "tiny",
    "model_sources": {"tiny": {"source": "path", "path": "tiny-model"}},
    "inputs": tiny.TEXTS[1:],
    "dataset": {"path": "mine.jsonl", "question": "ask", "answer": "gold", "group": "kind"},
    "prompt": {"preamble": PREAMBLE, "template": TEMPLATE, "max_new_tokens": 12},
    "figures": {"scale_qkv": {"epsilon": [0.5, "1e-3", 1e-10]}, "module_map": {"texts": None}},
}


# Read by every Python as it starts, which it notes: whoever opens a connection fails.
NO_NETWORK = """
import pathlib
import socket
import sys

with pathlib.Path(__file__).with_name("started.txt").open("a") as file:
    print(*sys.orig_argv, file=file)

def refuse(*arguments, **options):
    raise OSError("the network is refused")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


class Project:
    """A working directory with a config overlay, from which Snakemake runs the workflow.

    By default on one core: tests run side by side.
    """

    def __init__(self, folder, root, overlay=OVERLAY):
        self.folder, self.root, self.overlay = folder, root, copy.deepcopy(overlay)
        self.results = folder / "results" / "tiny"

    def change(self, **changes):
        """Lay `changes` (keys with __ between levels) over the project's config."""
        for key, value in changes.items():
            *path, last = key.split("__")
            place = self.overlay
            for part in path:
                place = place.setdefault(part, {})
            place[last] = value

    def command(self, *arguments):
        (self.folder / "overlay.yaml").write_text(yaml.safe_dump(self.overlay, allow_unicode=True))
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(self.root / "Snakefile")]
        return [*snakemake, "--configfile", "overlay.yaml", "--cores", "1", *arguments]

    def run(self, *arguments, check=True, **environment):
        """Snakemake's return code and all it printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout
        return done.returncode, done.stdout

    def planned(self, *arguments):
        """{rule: number of jobs} that a run would start."""
        _, output = self.run("--dry-run", *arguments)
        table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", output, re.DOTALL | re.MULTILINE)
        if table is None:
            assert "Nothing to be done" in output
            return {}
        rows = (line.split() for line in table[1].splitlines())
        return {rule: int(count) for rule, count in rows if rule not in ("figures", *FIGURES)}

    def copy(self, folder):
        """The same project in another folder, its files as old as they were."""
        shutil.copytree(self.folder, folder, copy_function=shutil.copy2, dirs_exist_ok=True)
        return Project(folder, self.root, self.overlay)

    def own_code(self):
        """Let the project run code of its own, which may be edited; its folder is returned."""
        code = self.folder / "code"
        files = ("Snakefile", "pyproject.toml", "environment.yml")
        for part in (*files, "scripts", "workflow", "config", "profiles"):
            source, target = self.root / part, code / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        self.root = code
        return code


def refuse_network(folder):
    """Environment of processes that can open no connection; `folder` receives what refuses them."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    return {"PYTHONPATH": str(folder)}


def questions(folder, models=({}, OTHER_MODEL)):
    """Questions whose gold answers are, for every other one, what tiny models say."""
    asked = [f"What is {n} and {n + 1}?" for n in range(120)]
    said = [answers(tiny.model(**changes), asked) for changes in models]
    rows = [
        {
            "ask": question,
            "gold": [*(answer for answer in aliases if answer.strip()), "x"]
            if n % 2
            else ["not this one"],
            "kind": n % 3,
        }
        for n, (question, *aliases) in enumerate(zip(asked, *said, strict=True))
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))


def answers(model, asked):
    """What a tiny model answers to each question."""
    tokenizer = tiny.tokenizer()
    prompts = [PREAMBLE + TEMPLATE.replace("{question}", question) for question in asked]
    said = {}
    for batch in generate(
        model,
        tokenizer,
        [tokenizer(prompt)["input_ids"] for prompt in prompts],
        stop=["\n"],
        max_new_tokens=12,
        batch_size=64,
    ):
        said.update((answer.index, answer.text) for answer in batch)
    return [said[n] for n in range(len(asked))]


def tiny_files(folder, **changes):
    """A tiny model and 120 questions.

    changes: of the model, see `tiny.model`; by default the usual one.
    """
    tiny.save(folder / "tiny-model", **changes)
    questions(folder, [changes] if changes else ({}, OTHER_MODEL))


def tiny_project(folder, root, **changes):
    """A project of a tiny model, with nothing made yet; changes: see `tiny_files`."""
    tiny_files(folder, **changes)
    return Project(folder, root)
