"""What a script depends on: its transitive local imports.

Snakemake sees a changed script but not a changed module that it imports. Every rule therefore
declares these files as inputs, which Snakemake compares by checksum.
"""

import ast
from functools import cache
from pathlib import Path


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
def _imported(file: Path, root: Path) -> tuple[Path, ...]:
    paths = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
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
