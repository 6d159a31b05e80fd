"""Digests of the code that a script depends on: its transitive local imports.

Snakemake notices a changed script but not a changed module that it imports. Every rule therefore
has a digest of each of these files among its params, which Snakemake compares. Rules that draw have
the versions of the libraries there, too.
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

# Packages on which the bytes of a figure depend, besides the code that draws it.
DRAWING = (
    "matplotlib",
    "seaborn",
    "pandas",
    "numpy",
    "pillow",
    "contourpy",
    "fonttools",
    "kiwisolver",
    "tueplots",
)
# Of a package, what gives names to notebooks: jobs import modules by statements.
FOR_NOTEBOOKS = ("__getattr__", "__dir__")
# Beside Snakemake's own records of a working directory.
CACHE = Path(".snakemake", "code")


class Source(NamedTuple):
    """The dotted names that a file imports, and a digest of its code."""

    imports: tuple[str, ...]
    digest: str


def find_drawing_versions() -> dict[str, str | None]:
    """{library: version} with which figures are drawn here, including Python and zlib."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in DRAWING:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions | {"zlib": zlib.ZLIB_RUNTIME_VERSION}


def digest_code(script: Path, *modules: str) -> list[str]:
    """The script and its local imports, each with a digest of its code: "job.py 1a2b3c4d5e6f".

    modules: dotted names of further local modules that the script imports when it runs.

    Comments, docstrings and layout do not change a digest, so editing them runs nothing again.

    Raises:
        SyntaxError: one of the files is not Python.
    """
    root = script.parent
    return [
        f"{file.relative_to(root).as_posix()} {_source(file, root).digest}"
        for file in find_imports(script, *modules)
    ]


@cache
def find_imports(script: Path, *modules: str) -> tuple[Path, ...]:
    """The script, then, sorted, every file below its folder that it imports, directly or not.

    modules: see `digest_code`. Imports inside functions count.
    """
    root = script.parent
    files = {script, *(file for module in modules for file in _files_of(module, root))}
    waiting = list(files)
    while waiting:
        new = set(_imported(waiting.pop(), root)) - files
        files |= new
        waiting += new
    return (script, *sorted(files - {script}))


@cache
def _imported(file: Path, root: Path) -> tuple[Path, ...]:
    return tuple(path for name in _source(file, root).imports for path in _files_of(name, root))


@cache
def _files_of(name: str, root: Path) -> tuple[Path, ...]:
    """The files that run when a dotted name is imported; of a.b.c also those of a and a.b."""
    parts = name.split(".")
    if parts[0] not in _modules(root):
        return ()
    bases = [root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    files = [path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py")]
    return tuple(path for path in files if path.is_file())


@cache
def _modules(root: Path) -> frozenset[str]:
    """Names in the folder; an import of any other name is not local."""
    return frozenset(path.stem for path in root.iterdir())


@cache
def _source(file: Path, root: Path) -> Source:
    """The file's imports and digest, cached in the working directory.

    Parsing all files takes longer than the rest of the Snakefile. A cached entry is used only for
    the same bytes, read by the same code and Python, so it is never out of date.
    """
    content = file.read_bytes()
    key = hashlib.sha256(_reader() + content).hexdigest()
    cached = CACHE / file.relative_to(root).with_suffix(".json")
    with suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged
        entry = json.loads(cached.read_bytes())
        if entry["key"] == key:
            return Source(tuple(entry["imports"]), entry["digest"])
    tree = ast.parse(content, filename=str(file))
    source = Source(tuple(_imports(tree)), _digest(tree))
    with suppress(OSError):  # the folder is not writable
        _write_entry(cached, {"key": key, **source._asdict()})
    return source


@cache
def _reader() -> bytes:
    """What a `Source` depends on besides the file: this module and the Python that runs it."""
    return sys.version.encode() + Path(__file__).read_bytes()


def _write_entry(path: Path, entry: dict) -> None:
    """Write an entry atomically, since other runs may read or write it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(entry), encoding="utf-8")
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
    """A digest of the code; removes docstrings, and names for notebooks, from the tree."""
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    unused = [node for node in functions if node.name in FOR_NOTEBOOKS]
    tree.body = [node for node in tree.body if node not in unused]
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # docstrings, and the documentation of fields in option classes
            node.body = [line for line in node.body if not _is_text(line)]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]
