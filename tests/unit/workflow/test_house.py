"""The house in order: what is pinned, and what imports what."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from imports import modules_loaded
from llm_figures.workflow import code_digests
from llm_figures.workflow.code_digests import digest_code, find_imports
from llm_figures.workflow.resources import TABLE

# Rules whose jobs go to a compute node: those that take more than one core for a large model.
NODE_RULES = [rule for rule, ((_, cores), _) in TABLE.items() if cores > 1]
TORCH_FREE = [
    "score_attention",
    "score_sink_map",
    "score_probes",
    "score_module_probes",
    "collect_probe_scores",
    "export_probes",
    "score_modules",
    "judge_answers",
    "report_answers",
    "build_questions",
    "render_figure",
    "render_checkpoints",
    "collect_checkpoints",
    "compare_presets",
    "check_attention_claims",
    "check_probe_claims",
    "check_module_claims",
    "collect_claims",
    "guard_claims",
    "write_manifest",
    "verify",
    "plan",
    "compare_claims",
    "compare_training",
    "render_comparison",
    "build_report",
    "bundle_results",
    "unpack_bundle",
    "check_redraw",
    "copy_figure",
    "write_paper",
]


RULE_FILES = sorted((Path(__file__).parents[3] / "workflow" / "rules").glob("*.smk"))


def pins(lines):
    return dict(line.strip().split("==") for line in lines if re.match(r"\s*[\w.-]+==", line))


def locked_pins(file):
    """Pins of a requirements file and of those it includes."""
    lines = file.read_text().splitlines()
    included = [line.split()[1] for line in lines if line.startswith("--requirement ")]
    found = pins(lines)
    for name in included:
        more = locked_pins(file.parent / name)
        assert not found.keys() & more.keys(), "pinned twice"
        found |= more
    return found


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_requirements_conda_and_pyproject_are_in_step(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    direct = pins(project["dependencies"] + project["optional-dependencies"]["test"])
    environment = yaml.safe_load((root / "environment.yml").read_text())["dependencies"]
    conda = pins(next(item for item in environment if isinstance(item, dict))["pip"])
    locked = locked_pins(root / "requirements.txt")
    locked = {normal(name): version for name, version in locked.items()}
    assert {normal(name): version for name, version in conda.items()} == locked
    for name, version in direct.items():
        assert locked[normal(name)] == version, name
    assert all("+" not in version for version in locked.values())


def test_what_is_installed_is_what_is_pinned(root):
    from importlib.metadata import version

    for name, pinned in locked_pins(root / "requirements.txt").items():
        assert version(name).split("+")[0] == pinned, name


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-figures.txt"])
def test_what_the_pinned_packages_need_is_pinned_too(root, file):
    """Each file by itself: pip finds nothing to choose."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    locked = locked_pins(root / file)
    known = {normal(name) for name in locked}
    for name in locked:
        for needed in map(Requirement, requires(name) or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                # NVIDIA's libraries and triton, at the versions that torch pins itself
                of_torch = normal(name) == "torch" and "==" in str(needed.specifier)
                assert normal(needed.name) in known or of_torch, f"{needed} of {name}"


def test_rules_that_draw_name_the_small_environment(root):
    environment = yaml.safe_load((root / "workflow" / "envs" / "drawing.yml").read_text())
    (packages,) = (item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert pins(packages) == locked_pins(root / "requirements-figures.txt")
    rules = "".join(file.read_text() for file in RULE_FILES)
    drawn = re.findall(r"^rule (\w+):(?:(?!^rule ).)*?envs/drawing.yml", rules, re.M | re.S)
    assert set(drawn) == {
        "render_figure",
        "render_comparison",
        "render_checkpoints",
        "unpack_bundle",
        "check_redraw",
        "copy_figure",
        "write_paper",
    }


def test_drawing_needs_no_torch(root):
    locked = {normal(name) for name in locked_pins(root / "requirements-figures.txt")}
    heavy = {"torch", "transformers", "tokenizers", "safetensors", "accelerate", "scikit-learn"}
    assert not locked & heavy
    assert {"snakemake", "matplotlib", "seaborn", "pandas", "pyarrow"} <= locked


def test_imports_are_followed_through_modules_and_functions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "package"
    package.mkdir()
    (tmp_path / "script.py").write_text("import os\nfrom package import one\n")
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("def f():\n    from package.two import g\n")
    (package / "two.py").write_text("import package.three as t\n")
    (package / "three.py").write_text("")
    (package / "unused.py").write_text("")
    found = [path.relative_to(tmp_path).as_posix() for path in find_imports(tmp_path / "script.py")]
    assert found == ["script.py", *(f"package/{n}.py" for n in ("__init__", "one", "three", "two"))]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("x = 1\n", "# why\nx  =  (1)\n\n\n", True),
        ('def f():\n    "Old."\n    return 1\n', 'def f():\n    """New."""\n    return 1\n', True),
        ('"Old."\nx = 1\n', "x = 1\n", True),
        (
            'class A:\n    x: int\n    "Old."\n    y: int\n',
            "class A:\n    x: int\n    y: int\n",
            True,
        ),
        ("x = 1\n", "def __getattr__(name):\n    return 1\n\n\nx = 1\n", True),
        ("x = 1\n", "def f(name):\n    return 1\n\n\nx = 1\n", False),
        ("x = 1\n", "x = 2\n", False),
        ("def f():\n    return 'a'\n", "def f():\n    return 'b'\n", False),
        ("x = 'a'\n", "x = 'b'\n", False),
    ],
)
def test_a_digest_is_of_what_the_code_does(tmp_path, monkeypatch, before, after, same):
    monkeypatch.chdir(tmp_path)
    found = []
    for number, text in enumerate((before, after)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "helper.py").write_text(text)
        (folder / "script.py").write_text("import helper\n")
        found.append(digest_code(folder / "script.py"))
    assert [line.split()[0] for line in found[0]] == ["script.py", "helper.py"]
    assert found[0][0] == found[1][0]
    assert (found[0] == found[1]) is same


@pytest.fixture
def reading(tmp_path, monkeypatch):
    """digest_code of a script in a folder of its own, as a new process would find them."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "scripts" / "script.py"
    script.parent.mkdir()

    def read(text):
        script.write_text(text)
        for function in (code_digests._source, code_digests._imported, code_digests._modules):
            function.cache_clear()
        find_imports.cache_clear()
        return digest_code(script)

    return read


def test_a_file_is_read_once_until_its_bytes_change(reading, monkeypatch):
    parsed = []
    parse = code_digests.ast.parse
    monkeypatch.setattr(
        code_digests.ast, "parse", lambda *of, **more: parsed.append(of) or parse(*of, **more)
    )
    one, two = reading("x = 1\n"), reading("x = 2\n")
    assert one != two
    assert len(parsed) == 2
    assert reading("x = 2\n") == two
    assert len(parsed) == 2
    assert reading("x = 1\n") == one
    # another Python may write the same code otherwise
    monkeypatch.setattr(code_digests.sys, "version", "4")
    code_digests._reader.cache_clear()
    assert reading("x = 1\n") == one
    code_digests._reader.cache_clear()
    assert len(parsed) == 4


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}'])
def test_a_damaged_or_lost_cache_entry_is_replaced(reading, damage):
    found = reading("x = 1\n")
    (entry,) = code_digests.CACHE.iterdir()
    entry.write_text(damage)
    assert reading("x = 1\n") == found
    entry.unlink()
    assert reading("x = 1\n") == found


def test_the_cache_is_optional(reading, tmp_path):
    (tmp_path / ".snakemake").write_text("in the way")
    assert reading("x = 1\n")


def test_declared_code_is_what_python_imports(root):
    """For every script: the local modules that an import loads are among those declared."""
    scripts = sorted((root / "scripts").glob("*.py"))
    loaded = modules_loaded(scripts, {script.stem for script in scripts} - {*TORCH_FREE})
    assert loaded.keys() == {script.stem for script in scripts}
    for script in scripts:
        declared = set(map(str, find_imports(script)))
        found = set(loaded[script.stem])
        assert str(script) in found
        assert found <= declared, script.name


def test_a_script_that_loads_torch_or_fails_is_named(tmp_path):
    for name, code in {
        "light": "import json",
        "heavy": "import helper",
        "helper": "import torch",
        "torch": "",
        "broken": "import nothing_of_that_name",
    }.items():
        (tmp_path / f"{name}.py").write_text(f"{code}\n")
    with pytest.raises(AssertionError) as error:
        modules_loaded([tmp_path / f"{name}.py" for name in ("light", "heavy", "broken")], set())
    errors = [line for line in str(error.value).splitlines() if re.match(r"\w*Error: ", line)]
    assert errors == [
        "ImportError: heavy: loads torch",
        "ModuleNotFoundError: No module named 'nothing_of_that_name'",
    ]


@pytest.mark.parametrize(
    "rule_file", [file for file in RULE_FILES if file.stem != "common"], ids=lambda file: file.stem
)
def test_every_rule_names_its_script_log_benchmark_and_code(rule_file):
    text = rule_file.read_text()
    rules = re.split(r"^ *rule (\w+):", text, flags=re.MULTILINE)[1:]
    assert rules
    for name, body in zip(rules[::2], rules[1::2], strict=True):
        assert f"scripts/{name}.py" in body
        assert f'threads: cores("{name}")' in body
        assert f'**needs("{name}")' in body
        assert ("localrule: True" in body) is (name not in NODE_RULES)
        if name in ("verify", "plan"):  # make nothing, so nothing of them can be out of date
            continue
        assert f'*code("{name}")' in body
        assert f"logs/{name}" in body
        assert f"benchmarks/{name}" in body


def test_versions_are_in_step(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    changes = (root / "CHANGELOG.md").read_text()
    assert re.findall(r"^## ([\d.]+)", changes, re.M)[0] == project["version"]
    assert citation["license"] == project["license"]
