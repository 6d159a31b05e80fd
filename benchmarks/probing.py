"""Works of the probe: the fits of the default protocol, with folds and label controls."""

from pathlib import Path

import pandas as pd
from works import DisagreementError, Method, Work

LARGEST_AUC_ERROR = 0.002
CONVERGED = "sklearn, standardised and converged"


def same_auc(folders: dict[str, Path]) -> str:
    found = {method: pd.read_parquet(folder / "auc.parquet") for method, folder in folders.items()}
    ours, reference = found[list(found)[-1]], found[CONVERGED]
    apart = (ours["auc"] - reference["auc"]).abs()
    sentences = []
    if not apart.max() <= LARGEST_AUC_ERROR:
        raise DisagreementError(
            f"our AUC of a cell is {apart.max():.4f} from that of sklearn's converged fit"
        )
    sentences.append(
        f"Of {len(ours)} cells ({len(ours) - int(ours['converged'].sum())} fits of ours not "
        f"converged) our AUC is within {apart.max():.5f} of that of `{CONVERGED}`, "
        f"{apart.mean():.6f} on average."
    )
    for method, own in list(found.items())[:-1]:
        if method.startswith(CONVERGED):
            continue
        apart = (own["auc"] - reference["auc"]).abs()
        sentences.append(
            f"That of `{method}` is off by up to {apart.max():.3f}, {apart.mean():.3f} on average; "
            f"{int((~own['converged']).sum())} of its fits stopped unconverged."
        )
    return " ".join(sentences)


def grid(name: str, targets: dict[str, float], small: dict | None, **options) -> Work:
    """targets: {method: how many times faster we are to be}. options: of the task, see `_grid`."""
    functions = {
        "sklearn, defaults": "default",
        CONVERGED: "converged",
        f"{CONVERGED} to 1e-4": "loosely",
        "sklearn, newton-cholesky, double precision": "newton",
        "sklearn, newton-cholesky, single precision to 1e-4": "newton_loosely",
    }
    methods = [
        Method(
            f"{method}{suffix}",
            f"probing_methods:{function}",
            target=targets.get(f"{method}{suffix}"),
            options={"processes": processes},
        )
        for method, function in functions.items()
        for suffix, processes in (("", 1), (", all cores", None))
    ]
    methods.append(Method("ours", "probing_methods:ours"))
    return Work(name, tuple(methods), options, small, same_auc)


# None: what the run has. Every fifth layer: newton-cholesky takes half a minute for each.
OF_THE_RUN = {"questions": None, "layers": None, "every": 5, "features": None}
FEW = {"questions": 80, "layers": 2}
NEWTON = "sklearn, newton-cholesky, double precision"
WORKS = (
    grid(
        "probe grid",
        {
            CONVERGED: 4,
            f"{CONVERGED}, all cores": 4,
            NEWTON: 6,
            f"{NEWTON}, all cores": 6,
        },
        FEW,
        **OF_THE_RUN,
        C="auto",
    ),
    grid(
        "probe grid, C = 1",
        {
            CONVERGED: 15,
            f"{CONVERGED}, all cores": 10,
            "sklearn, defaults": 5,
        },
        None,
        **OF_THE_RUN,
        C=1.0,
    ),
    # One of its 32 layers: a whole grid of sklearn's converged fits takes an hour.
    grid(
        "probe grid of a 7B model",
        {CONVERGED: 5, f"{CONVERGED}, all cores": 3},
        FEW | {"features": 24},
        questions=1000,
        layers=1,
        every=1,
        features=4096,
        C="auto",
    ),
)
