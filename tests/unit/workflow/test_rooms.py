"""Which room of the library may import which, and that nothing imports in a circle."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[3] / "scripts" / "llm_figures"
# {room: rooms that it may import}, from the lowest to the highest.
ALLOWED = {
    "core": set(),
    "plotting": {"core"},
    "models": {"core"},
    "inference": {"core", "models"},
    "attention": {"core", "plotting", "models", "inference"},
    "questions": {"core", "models", "inference"},
    "probe": {"core", "plotting", "models", "inference", "questions"},
    "modules": {"core", "plotting", "models", "inference", "questions", "probe"},
    "claims": {"core", "plotting", "attention", "probe", "modules"},
    "comparison": {"core", "plotting", "models", "attention", "probe", "modules", "claims"},
    "provenance": {"core", "models", "attention", "probe", "modules", "claims"},
    "paper": {"core", "models", "probe", "claims"},
    "workflow": {"core", "models", "inference", "attention", "questions", "probe", "modules",
                 "claims", "plotting", "comparison", "provenance", "paper"},
    "notebook": {"core", "plotting", "models", "attention", "questions", "probe", "modules",
                 "claims", "provenance", "workflow"},
}  # fmt: skip
# {package: modules whose names it gives to a notebook, imported when one of them is first used}
LATER = {
    "llm_figures": {"llm_figures.notebook"},
    "llm_figures.notebook": {"llm_figures.attention.interventions", "llm_figures.core.errors",
                             "llm_figures.notebook.plots", "llm_figures.notebook.results"},
    "llm_figures.probe": {"llm_figures.probe.exported"},
}  # fmt: skip
MODULES = {
    ".".join(file.relative_to(LIBRARY.parent).with_suffix("").parts): file
    for file in LIBRARY.rglob("*.py")
}


def imported(name):
    """Modules of the library that a module's import statements name, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import, which digests do not follow"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {module for module in names if module in MODULES}
    return found


def named_in_text(name):
    """Modules of the library that strings in a module name, as for `import_module`."""
    known = {module.removesuffix(".__init__") for module in MODULES}
    texts = (node.value for node in ast.walk(ast.parse(MODULES[name].read_text()))
             if isinstance(node, ast.Constant))  # fmt: skip
    return {text for text in texts if text in known}


def test_every_module_lies_in_a_room():
    assert {file.name for file in LIBRARY.glob("*.py")} == {"__init__.py"}
    assert {path.name for path in LIBRARY.iterdir() if path.is_dir()} - {"__pycache__"} == set(
        ALLOWED
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_room_imports_only_the_rooms_below_it(name):
    room, *_ = name.removeprefix("llm_figures.").split(".")
    if name.endswith("__init__"):  # no job may depend on what a package gives to notebooks
        package = name.removesuffix(".__init__")
        later = LATER.get(package, set())
        assert imported(name) == set()
        assert named_in_text(name) == later
        allowed = {"notebook"} if package == "llm_figures" else {room, *ALLOWED[room]}
        assert {module.split(".")[1] for module in later} <= allowed
        return
    others = {module.split(".")[1] for module in imported(name)} - {room}
    assert others <= ALLOWED[room]


def test_the_rooms_are_in_an_order():
    """Each may import only rooms above it in the table, so there is no circle of rooms."""
    seen = set()
    for room, allowed in ALLOWED.items():
        assert allowed <= seen, room
        seen.add(room)


def test_no_modules_import_each_other_in_a_circle():
    waiting = {name: imported(name) for name in MODULES}
    while free := [name for name, needed in waiting.items() if not needed & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting
