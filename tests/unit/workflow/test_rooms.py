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


def test_every_module_lies_in_a_room():
    assert {file.name for file in LIBRARY.glob("*.py")} == {"__init__.py"}
    assert {path.name for path in LIBRARY.iterdir() if path.is_dir()} - {"__pycache__"} == set(
        ALLOWED
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_room_imports_only_the_rooms_below_it(name):
    room, *rest = name.removeprefix("llm_figures").removeprefix(".").split(".")
    if not rest:  # the package, or a room's own docstring
        assert imported(name) == set()
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
