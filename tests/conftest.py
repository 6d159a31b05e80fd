from pathlib import Path

import pytest
import torch
import yaml

from llm_figures.core.options import read_options
from llm_figures.workflow.config import Config

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # tiny models lose more to threads than they gain


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def default_config() -> dict:
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


@pytest.fixture
def options(default_config) -> dict:
    """The figures' options, with defaults."""
    return read_options(Config, default_config, "config").figures.plain()
