"""Works of the pipeline: a run from nothing, one with nothing to do, and one after an edit."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from works import DisagreementError, Method, Work

STYLE = {"figures": {"scale_qkv": {"palette": "Greens"}}}
EPSILON = {"figures": {"scale_qkv": {"epsilon": [0.5, 0.1, 0.001]}}}
# What an edit runs: these rules, each once.
DRAWN = {"render_figure", "write_manifest"}
SCORED = {*DRAWN, "score_attention", "check_attention_claims", "collect_claims"}
# The default model is not fetched, and nothing of the user's project is changed.
OPTIONS = {"target": "figures", "tiny": False, "cold": False, "change": {}}
# A target of its own, without claims and manifest, of a tiny model.
SMALL = {"target": "scale_qkv", "tiny": True}


def _agree(least: set[str], most: set[str] | None = None) -> Callable[[Mapping[str, Path]], str]:
    """Whether the run started the rules that it should: all of `least`, none beside `most`."""

    def agree(folders: Mapping[str, Path]) -> str:
        (folder,) = folders.values()
        jobs = json.loads((folder / "jobs.json").read_text())
        if not least <= jobs.keys() or (most is not None and not jobs.keys() <= most):
            raise DisagreementError(f"it ran {', '.join(sorted(jobs)) or 'nothing'}")
        return f"{sum(jobs.values())} jobs of {len(jobs)} rules."

    return agree


def _work(what: str, agree: Callable, aim: str | None = None, **options) -> Work:
    """aim: the target for its time, in a sentence."""
    return Work(
        name=f"pipeline, {what}",
        methods=(Method("ours", "pipeline_methods:figures"),),
        options=OPTIONS | options,
        small=SMALL,
        agree=agree,
        summary=aim and (lambda costs: aim),
    )


WORKS = [
    _work(
        "cold",
        _agree({"prepare_model", "score_attention", "render_figure"}),
        "The target for start-up is at most 15% of the jobs' time.",
        cold=True,
    ),
    _work("nothing to do", _agree(set(), set()), "The target is at most 3 s."),
    _work("one style changed", _agree({"render_figure"}, DRAWN), change=STYLE),
    _work("one ε changed", _agree({"score_attention", "render_figure"}, SCORED), change=EPSILON),
]
