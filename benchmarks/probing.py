"""Works of the probe: the fits of the default protocol, with folds and label controls."""

from pathlib import Path

import pandas as pd
from works import DisagreementError, Method, Work

LARGEST_AUC_ERROR = 0.002
CONVERGED = "sklearn, standardised and converged"
NEWTON = "sklearn, newton-cholesky, double precision"


def same_auc(folders: dict[str, Path]) -> str:
    found = {method: pd.read_parquet(folder / "auc.parquet") for method, folder in folders.items()}
    ours, reference = found[list(found)[-1]], found[CONVERGED]
    apart = (ours["auc"] - reference["auc"]).abs()
    sentences = []
    if not apart.max() <= LARGEST_AUC_ERROR:
        raise DisagreementError(
            f"our AUC of a fit is {apart.max():.4f} from that of sklearn's converged fit"
        )
    sentences.append(
        f"Of {len(ours)} fits ({len(ours) - int(ours['converged'].sum())} of ours not converged) "
        f"our AUC is within {apart.max():.5f} of that of `{CONVERGED}`, "
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


def grid(
    name: str, targets: dict[str, float], small: dict | None, cubic: bool = True, **options
) -> Work:
    """targets: {method: how many times faster we are to be}. options: of the task, see `_grid`.

    cubic: with newton-cholesky, whose systems have the size of the features.
    """
    # The fastest converged ones in all cores, too.
    functions = {
        "sklearn, defaults": ("default", [1]),
        CONVERGED: ("converged", [1, None]),
        f"{CONVERGED} to 1e-4": ("loosely", [1]),
        NEWTON: ("newton", [1, None]),
        "sklearn, newton-cholesky, single precision to 1e-4": ("newton_loosely", [1]),
    }
    methods = [
        Method(
            method := name if processes else f"{name}, all cores",
            f"probing_methods:{function}",
            target=targets.get(method),
            options={"processes": processes},
        )
        for name, (function, counts) in functions.items()
        for processes in counts
        if cubic or "newton" not in function
    ]
    methods.append(Method("ours", "probing_methods:ours"))
    return Work(name, tuple(methods), options, small, same_auc)


# None: what the run has. Every tenth layer: newton-cholesky takes half a minute for each.
OF_THE_RUN = {"questions": None, "layers": None, "every": 10, "features": None}
FEW = {"questions": 80, "layers": 2}
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
        cubic=False,
        questions=1000,
        layers=1,
        every=1,
        features=4096,
        C="auto",
    ),
)
