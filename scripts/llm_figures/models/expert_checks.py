"""Tensors that are missing beside others of their kind, known from names alone.

transformers joins the matrices of experts, and unpacks weights in blocks, while it loads them; of
one that is missing it says only that the conversion failed.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

from llm_figures.core.errors import UserError

_EXPERT = re.compile(r"(.*?\b\w*experts\.)(\d+)\.(.+)")
_NUMBER = re.compile(r"\d+")
# Of packed weights, neither can be read without the other.
_PAIRS = (("_blocks", "_scales"), ("_scales", "_blocks"))


def check_experts(names: Collection[str], where: str) -> None:
    """Check that all experts have the same tensors, and packed weights their scales.

    names: of all tensors in the files. where: how messages begin.

    Raises:
        UserError: names the first tensor that is missing.
    """
    if absent := sorted({*_absent_of_experts(names), *_absent_of_pairs(names)}):
        more = f", and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise UserError(
            f"{where}: {absent[0]} is in no file, unlike others of its kind{more}; complete the "
            "download"
        )


def _absent_of_experts(names: Collection[str]) -> Iterator[str]:
    stacks: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    alike: dict[str, list[set[str]]] = defaultdict(list)  # of the same stack in all blocks
    for name in names:
        if parts := _EXPERT.fullmatch(name):
            stacks[parts[1]][int(parts[2])].add(parts[3])
    for start, experts in stacks.items():
        alike[_NUMBER.sub("", start)] += experts.values()
    for start, experts in stacks.items():
        usual = _usual(experts.values())
        of_all = _usual(alike[_NUMBER.sub("", start)])
        if usual <= of_all:  # else the block is of another kind, or stored in another way
            usual = of_all
        for number in range(max(experts) + 1):
            own = experts.get(number, set())
            # an expert may be stored in another way, such as one that is not quantised
            otherwise = {_module(name) for name in own - usual}
            for name in usual - own:
                if _module(name) not in otherwise:
                    yield f"{start}{number}.{name}"


def _usual(experts: Collection[set[str]]) -> set[str]:
    """The names that half of the experts have."""
    counts = Counter(name for own in experts for name in own)
    return {name for name, count in counts.items() if 2 * count >= len(experts)}


def _absent_of_pairs(names: Collection[str]) -> Iterator[str]:
    known = set(names)
    for ending, other in _PAIRS:
        for name in names:
            if (
                "experts." in name
                and name.endswith(ending)
                and name.removesuffix(ending) + other not in known
            ):
                yield name.removesuffix(ending) + other


def _module(name: str) -> str:
    return name.rpartition(".")[0]
