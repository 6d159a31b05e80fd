"""Sha256 of files, and which of the results a manifest lists and `snakemake verify` checks."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def sha256(path: Path) -> str:
    """Hex digest of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def result_files(folder: Path) -> set[str]:
    """Every Parquet file and everything in figures/, relative to the model's folder."""
    found = [*folder.rglob("*.parquet"), *folder.glob("figures/*")]
    return {
        path.relative_to(folder).as_posix()
        for path in found
        if path.is_file() and not path.name.startswith(".")  # half-written ones are hidden
    }


def describe_files(folder: Path, names: Iterable[str]) -> dict[str, dict]:
    """{name: {bytes, sha256}} of files below `folder`."""
    names = sorted(names)

    def describe(name: str) -> dict:
        path = folder / name
        return {"bytes": path.stat().st_size, "sha256": sha256(path)}

    with ThreadPoolExecutor(4) as pool:  # hashing leaves the interpreter's lock
        return dict(zip(names, pool.map(describe, names), strict=True))
