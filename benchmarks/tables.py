"""What a run found, in words: tables for README.md, and one picture of the ratios."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from apart import LARGEST_LOAD
from works import Work

README = Path(__file__).with_name("README.md")
PICTURE = Path(__file__).with_name("ratios.png")
MARKERS = ("<!-- results -->", "<!-- /results -->")


def write_tables(works: Sequence[Work], costs: pd.DataFrame) -> None:
    """Put the tables of all works that were measured into README.md, and draw the picture."""
    text = README.read_text()
    if any(text.count(marker) != 1 for marker in MARKERS):
        raise SystemExit(f"{README.name} needs the markers {' and '.join(MARKERS)} once each")
    before, _, rest = text.partition(MARKERS[0])
    after = rest.partition(MARKERS[1])[2]
    README.write_text(f"{before}{MARKERS[0]}\n\n{report(works, costs)}\n\n{MARKERS[1]}{after}")
    draw(works, costs)


def report(works: Sequence[Work], costs: pd.DataFrame) -> str:
    measured = [work for work in works if (costs["work"] == work.name).any()]
    paragraphs = ["\n".join(f"- {machine}" for machine in sorted(set(costs["machine"])))]
    for work in measured:
        own = costs[costs["work"] == work.name]
        paragraphs += [f"### {work.name[0].upper()}{work.name[1:]}", markdown(rows_of(work, own))]
        if (agreement := own["agreement"].iloc[0]) and isinstance(agreement, str):
            paragraphs.append(agreement)
        if words := memory(work, own):
            paragraphs.append(words)
        if work.summary:
            paragraphs.append(work.summary(own))
        if (load := own["other_load"].max()) > LARGEST_LOAD:
            paragraphs.append(f"Other programs kept {load:.1f} cores busy during one of the runs.")
    if limit := shares(works, costs):
        paragraphs += ["### Share of the limit", markdown(limit)]
    if missing := [work.name for work in works if work not in measured]:
        paragraphs.append(f"Not measured so far: {'; '.join(missing)}.")
    return "\n\n".join(paragraphs)


def medians(work: Work, costs: pd.DataFrame) -> pd.DataFrame:
    """Per method, in the work's order: median, least and most seconds, and the other medians."""
    by_method = costs.groupby("method")
    found = by_method.median(numeric_only=True)
    found["least"], found["most"] = by_method["seconds"].min(), by_method["seconds"].max()
    return found.reindex([method.name for method in work.methods if method.name in found.index])


def rows_of(work: Work, costs: pd.DataFrame) -> list[dict[str, str]]:
    found = medians(work, costs)
    single = len(work.methods) == 1 or work.summary is not None
    rows = []
    for method in work.methods:
        if method.name not in found.index:
            continue
        cost = found.loc[method.name]
        row = {
            "Method": method.name,
            "Seconds": f"{cost['seconds']:.2f}",
            "Least to most": f"{cost['least']:.2f} to {cost['most']:.2f}",
        }
        if not single and work.ours.name in found.index:
            ours = found.loc[work.ours.name]
            row["× ours"] = f"{cost['seconds'] / ours['seconds']:.1f}"
            row["Target"] = "" if method.target is None else f"{method.target:g}"
        row |= {
            "Set-up, s": f"{cost['setup_seconds']:.1f}",
            "Peak, MiB": f"{cost['peak_mb']:,.0f}",
        }
        if not np.isnan(cost.get("gpu_peak_mb", np.nan)):
            row["On the GPU, MiB"] = f"{cost['gpu_peak_mb']:,.0f}"
        if not np.isnan(cost.get("jobs", np.nan)):
            row |= {"Jobs": f"{cost['jobs']:.0f}", "Start-up": f"{cost['startup_share']:.0%}"}
        rows.append(row)
    return rows


def memory(work: Work, costs: pd.DataFrame) -> str:
    """Our peak memory compared with its target."""
    peaks = medians(work, costs)["peak_mb"]
    words = []
    if work.largest_mb is not None and work.ours.name in peaks:
        words.append(f"The target for our peak is at most {work.largest_mb:,.0f} MiB.")
    first = work.methods[0].name
    if work.memory_target is not None and {first, work.ours.name} <= set(peaks.index):
        words.append(
            f"Our peak is 1/{peaks[first] / peaks[work.ours.name]:.1f} of that of `{first}`; the "
            f"target is 1/{work.memory_target:g}."
        )
    return " ".join(words)


def shares(works: Sequence[Work], costs: pd.DataFrame) -> list[dict[str, str]]:
    """Rows: what part of the machine's matrix-product rate each forward-bound stage reaches.

    A work whose limit was not measured has none.
    """
    if "operations" not in costs:
        return []
    counted = costs.dropna(subset="operations")
    rates = counted["operations"] / counted["seconds"] / 1e9
    median = rates.groupby([counted["work"], counted["method"]], sort=False).median()
    limit_of = {work.name: work.setting.limit for work in works}
    rows = []
    for (work, method), rate in median.items():
        limit = limit_of.get(work)
        if limit not in median.index:
            continue
        share = "" if work == limit else f"{rate / median[limit].max():.0%}"
        rows.append(
            {"Task": work, "Method": method, "Gflop/s": f"{rate:.0f}", "Of the limit": share}
        )
    return rows


def draw(works: Sequence[Work], costs: pd.DataFrame) -> None:
    """Every peer's time in units of ours, with the targets."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn

    rows = []
    for work in works:
        own = costs[costs["work"] == work.name]
        found = medians(work, own)
        if own.empty or work.ours.name not in found.index or work.summary is not None:
            continue
        ours = own[own["method"] == work.ours.name]["seconds"].median()
        for method in work.methods[:-1]:
            for seconds in own[own["method"] == method.name]["seconds"]:
                rows.append(
                    {
                        "work": work.name,
                        "label": f"{work.name}: {method.name}",
                        "ratio": seconds / ours,
                        "target": method.target,
                    }
                )
    if not rows:
        return
    frame = pd.DataFrame(rows)
    labels = list(dict.fromkeys(frame["label"]))
    with seaborn.axes_style("whitegrid"), seaborn.plotting_context("paper"):
        figure, axes = plt.subplots(figsize=(9, 0.26 * len(labels) + 1.2), layout="constrained")
        seaborn.stripplot(
            frame,
            x="ratio",
            y="label",
            hue="work",
            order=labels,
            jitter=False,
            legend=False,
            ax=axes,
        )
        targets = frame.drop_duplicates("label")
        at = [labels.index(label) for label in targets["label"]]
        axes.scatter(
            targets["target"], at, marker="|", s=160, color="black", label="target", zorder=3
        )
        axes.axvline(1, color="0.3", linewidth=1)
        axes.set(xscale="log", xlabel="time of the other method ÷ ours (log scale)", ylabel="")
        ticks = [
            tick
            for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200)
            if tick <= 1.5 * frame["ratio"].max()
        ]
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.legend(loc="lower right")
        figure.savefig(PICTURE, dpi=150)
        plt.close(figure)


def markdown(rows: list[dict[str, str]]) -> str:
    def is_number(text: str) -> bool:
        return not text or text[0].isdigit()

    numbers = {name: all(is_number(row[name]) for row in rows) for name in rows[0]}
    lines = [list(rows[0]), ["---:" if numbers[name] else "---" for name in rows[0]]]
    lines += [list(row.values()) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
