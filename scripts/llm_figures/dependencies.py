"""What a script depends on: its transitive local imports, by what they do.

Snakemake sees a changed script but not a changed module that it imports. Every rule therefore
carries a digest of each of these files among its params, which Snakemake compares. Nor does it
see other versions of the libraries, which the rules that draw carry in the same way.
"""

import ast
import hashlib
import platform
import zlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# What the bytes of a picture depend on, beside what draws it.
DRAWING = (
    "matplotlib",
    "seaborn",
    "pandas",
    "numpy",
    "pillow",
    "contourpy",
    "fonttools",
    "kiwisolver",
)


def drawing_versions() -> dict[str, str | None]:
    """{library: version} that pictures are drawn with here, Python and zlib among them."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in DRAWING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found | {"zlib": zlib.ZLIB_RUNTIME_VERSION}


def code_versions(script: Path) -> list[str]:
    """The script and its local imports, each with a digest of what it does: "job.py 1a2b3c4d5e6f".

    Comments, docstrings and layout are not part of it: an edit of them runs nothing again.

    Raises:
        SyntaxError: one of the files is not Python.
    """
    root = script.parent
    return [
        f"{file.relative_to(root).as_posix()} {_digest(file)}" for file in local_imports(script)
    ]


@cache
def local_imports(script: Path) -> tuple[Path, ...]:
    """The script itself and every file below its folder that it imports, directly or not.

    Imports inside functions count. The order is stable: the script first, the rest sorted.
    """
    found: set[Path] = set()
    queue = [script]
    while queue:
        for path in _imported(queue.pop(), script.parent):
            if path not in found:
                found.add(path)
                queue.append(path)
    return (script, *sorted(found - {script}))


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """The module and every statement in it; expressions hold neither imports nor docstrings."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, field, [])


@cache
def _imported(file: Path, root: Path) -> tuple[Path, ...]:
    paths = []
    for node in _statements(_tree(file)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import module` names a module, too
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            # importing a.b also runs a/__init__.py
            for depth in range(1, len(parts) + 1):
                base = root.joinpath(*parts[:depth])
                paths += [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]
    return tuple(paths)


@cache
def _digest(file: Path) -> str:
    tree = _tree(file)
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]  # a docstring
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]
