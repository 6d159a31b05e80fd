"""YAML files: those of the project are read fast, a user's without risk."""

from pathlib import Path
from typing import Any

import yaml

# libyaml takes a tenth of the time, where PyYAML is built with it.
_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def users_yaml(path: Path) -> Any:
    """The content of any file.

    Raises:
        OSError, ValueError, RecursionError, yaml.YAMLError: it cannot be read.
    """
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def own_yaml(path: Path) -> Any:
    """The content of a file of the project. libyaml crashes on one that is nested too deeply.

    Raises: what `users_yaml` does, which quotes the place.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _FAST)
    except yaml.YAMLError:
        return users_yaml(path)
