"""What a script depends on: its transitive local imports, by what they do.

Snakemake sees a changed script but not a changed module that it imports. Every rule therefore
carries a digest of each of these files among its params, which Snakemake compares. Nor does it
see other versions of the libraries, which the rules that draw carry in the same way.
"""

import ast
import hashlib
import json
import os
import platform
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

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
# Where Snakemake keeps what it knows of a working directory, too.
KEPT = Path(".snakemake", "code")


class Source(NamedTuple):
    """What a file imports, by names with dots between, and a digest of what it does."""

    imports: tuple[str, ...]
    digest: str


def drawing_versions() -> dict[str, str | None]:
    """{library: version} that pictures are drawn with here, Python and zlib among them."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in DRAWING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found | {"zlib": zlib.ZLIB_RUNTIME_VERSION}


def code_versions(script: Path, *modules: str) -> list[str]:
    """The script and its local imports, each with a digest of what it does: "job.py 1a2b3c4d5e6f".

    modules: names of further modules of ours, which the script imports by name.

    Comments, docstrings and layout are not part of it: an edit of them runs nothing again.

    Raises:
        SyntaxError: one of the files is not Python.
    """
    root = script.parent
    return [
        f"{file.relative_to(root).as_posix()} {_source(file, root).digest}"
        for file in local_imports(script, *modules)
    ]


@cache
def local_imports(script: Path, *modules: str) -> tuple[Path, ...]:
    """The script itself and every file below its folder that it imports, directly or not.

    modules: see `code_versions`. Imports inside functions count. The order is stable: the script
    first, the rest sorted.
    """
    root = script.parent
    found = {script, *(file for module in modules for file in _files_of(module, root))}
    waiting = list(found)
    while waiting:
        new = set(_imported(waiting.pop(), root)) - found
        found |= new
        waiting += new
    return (script, *sorted(found - {script}))


@cache
def _imported(file: Path, root: Path) -> tuple[Path, ...]:
    return tuple(path for name in _source(file, root).imports for path in _files_of(name, root))


@cache
def _files_of(name: str, root: Path) -> tuple[Path, ...]:
    """The files that importing a dotted name runs; of a.b.c also those of a and a.b."""
    parts = name.split(".")
    if parts[0] not in _modules(root):
        return ()
    bases = [root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    files = [path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py")]
    return tuple(path for path in files if path.is_file())


@cache
def _modules(root: Path) -> frozenset[str]:
    """Names of which some may be modules of ours; most imports are of none."""
    return frozenset(path.stem for path in root.iterdir())


@cache
def _source(file: Path, root: Path) -> Source:
    """The file, read as Python; what was found is kept in the working directory.

    To read all files takes longer than the rest of the Snakefile. What is kept counts for these
    very bytes, read by this very code and Python, and thus is never out of date.
    """
    content = file.read_bytes()
    key = hashlib.sha256(_reader() + content).hexdigest()
    kept = KEPT / file.relative_to(root).with_suffix(".json")
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or not whole
        found = json.loads(kept.read_bytes())
        if found["key"] == key:
            return Source(tuple(found["imports"]), found["digest"])
    tree = ast.parse(content, filename=str(file))
    source = Source(tuple(_imports(tree)), _digest(tree))
    with suppress(OSError):  # a folder that cannot be written to
        _keep(kept, {"key": key, **source._asdict()})
    return source


@cache
def _reader() -> bytes:
    """What a `Source` depends on beside the file: this module, and the Python that runs it."""
    return sys.version.encode() + Path(__file__).read_bytes()


def _keep(path: Path, found: dict) -> None:
    """Write at once, for other runs may read or write it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(path)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """The module and every statement in it; expressions hold neither imports nor docstrings."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, field, [])


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import module` names a module, too
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _digest(tree: ast.Module) -> str:
    """A digest of the code; the tree loses its docstrings."""
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # docstrings, and the texts below the fields of option classes
            node.body = [line for line in node.body if not _is_text(line)]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]
