"""What is measured: works, and the methods that do each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


class DisagreementError(Exception):
    """Methods whose results are too far apart for their times to be compared."""


@dataclass(frozen=True)
class Method:
    """One way to do a work.

    function: "module:name" in this folder, called with the task in a process of its own.
    environment: "own", or a file of peers/. target: ours is to be at least so many times faster.
    options: parts of its task, beside those of the work. small: what takes their place, and that of
    the work's, in a run that shows only that all of it works; None: it is left out there, where
    another method runs the same code.
    """

    name: str
    function: str
    environment: str = "own"
    target: float | None = None
    options: dict = field(default_factory=dict)
    small: dict | None = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """Which model a work is done with, and where it computes.

    limit: the name of the work that measures the rate of matrix products there. made_up: in place
    of the run's model one with random weights, see `large_model`. On a GPU it is for machines that
    have one.
    """

    device: str
    dtype: str
    limit: str
    made_up: bool = False


ON_CPU = Setting("cpu", "float32", "matrix products")
ON_GPU = Setting("cuda", "bfloat16", "matrix products, 7B on a GPU", made_up=True)


@dataclass(frozen=True)
class Work:
    """The same results wanted of several methods, the last of which is ours.

    setting: model and device. options: parts of the task. small: what takes their place in a run
    that shows only that all of it works; None: it is left out there, as another work runs the same
    code. agree: {method: folder of its results} -> how far the methods agree, in a sentence; raises
    DisagreementError. summary: costs of the work's runs -> paragraphs for below the table.
    named_only: whether it takes too long to run unless it is named. largest_mb: what our peak is to
    stay under. memory_target: how many times less memory ours is to
    take than the first method.
    """

    name: str
    methods: tuple[Method, ...]
    options: dict = field(default_factory=dict)
    small: dict | None = field(default_factory=dict)
    agree: Callable[[dict[str, Path]], str] | None = None
    summary: Callable[[pd.DataFrame], str] | None = None
    largest_mb: float | None = None
    memory_target: float | None = None
    setting: Setting = ON_CPU
    named_only: bool = False

    @property
    def ours(self) -> Method:
        return self.methods[-1]

    def shown(self, small: bool) -> list[Method]:
        """The methods that are run."""
        if not small:
            return list(self.methods)
        if self.small is None:
            return []
        return [method for method in self.methods if method.small is not None]

    def parts(self, method: Method, small: bool) -> dict:
        """The parts of a method's task that are the work's and its own, which go before."""
        parts = self.options | method.options
        return parts | (self.small or {}) | (method.small or {}) if small else parts
