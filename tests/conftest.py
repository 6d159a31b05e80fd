from pathlib import Path

import pytest
import torch
import yaml

from llm_figures.workflow.config import validated

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # tiny models lose more to threads than they gain


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def default_config() -> dict:
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


@pytest.fixture
def options(default_config, root) -> dict:
    """The figures' options, with defaults."""
    schema = yaml.safe_load((root / "workflow" / "schemas" / "config.schema.yaml").read_text())
    return validated(default_config, schema, "config")["figures"]
