"""What is said of a target that nothing makes."""

import difflib
import logging
import re
from collections.abc import Callable, Collection
from pathlib import PurePosixPath

# Snakemake's own line.
MISSING = re.compile(r"No rule to produce (.+?) \(if you use")


class ExplainTarget(logging.Filter):
    """Says which targets, models or figures there are, where Snakemake knows no rule for one.

    names: of the targets. models: of the run. figures: those of a model of the run.
    """

    def __init__(
        self,
        names: Collection[str],
        models: Collection[str],
        figures: Callable[[str], Collection[str]],
    ):
        super().__init__()
        self.names, self.models, self.figures = names, models, figures

    def filter(self, record: logging.LogRecord) -> bool:
        missing = getattr(record, "exception", None) == "MissingRuleException"
        if missing and (found := MISSING.search(str(record.msg))):
            record.msg = self.explain(found[1])
        return True

    def explain(self, target: str) -> str:
        """One line about a target that nothing makes."""
        folders = PurePosixPath(target).parts
        if len(folders) == 1:
            near = difflib.get_close_matches(target, self.names, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            return f"unknown target {target!r}; {hint}allowed: {', '.join(sorted(self.names))}"
        nothing = f"no rule makes {target}"
        if folders[0] != "results":
            return f"{nothing}; all results are in results/"
        model = folders[1]
        if model not in self.models:
            return f"{nothing}; models of this run: {', '.join(self.models)}"
        if folders[2:3] == ("figures",):
            return f"{nothing}; figures of {model}: {', '.join(self.figures(model))}"
        return nothing
