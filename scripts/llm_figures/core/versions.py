"""Versions of the packages that numbers and figures come from."""

import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

# {package: the module by which it is imported}
PACKAGES = {
    "accelerate": "accelerate",
    "babel": "babel",
    "countryinfo": "countryinfo",
    "gguf": "gguf",
    "inflect": "inflect",
    "Jinja2": "jinja2",
    "math-verify": "math_verify",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "OpenCC": "opencc",
    "pandas": "pandas",
    "periodictable": "periodictable",
    "Pint": "pint",
    "pyarrow": "pyarrow",
    "regex": "regex",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "seaborn": "seaborn",
    "snakemake": "snakemake",
    "text2num": "text_to_num",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
    "us": "us",
}


def find_versions_in_use() -> dict[str, str]:
    """{package: version} of Python and of what this process has imported so far."""
    loaded = [package for package, module in PACKAGES.items() if module in sys.modules]
    return find_installed_versions(["python", *loaded])


def find_installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """{package: version} of those of the packages, and of "python", that are installed here."""
    known = ((package, _version(package)) for package in packages)
    return {package: found for package, found in known if found is not None}


def find_other_versions(made_with: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """{package: (then, now)} where another version is installed now.

    A package that is not installed says nothing: jobs may have environments of their own.
    """
    now = find_installed_versions(made_with)
    return {
        package: (then, now[package])
        for package, then in made_with.items()
        if now.get(package, then) != then
    }


@cache
def _version(package: str) -> str | None:
    if package == "python":
        return platform.python_version()
    try:
        return version(package)
    except PackageNotFoundError:
        return None
