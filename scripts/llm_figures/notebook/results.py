"""A model's results as frames and arrays: the folder results/{model} of a run, or a copy of it.

Nothing here needs Snakemake, torch or the model. Every mistake is a `UserError` of one line.
"""

import json
import re
import tomllib
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.attention.maps import LayerStates
from llm_figures.attention.qk_store import open_states
from llm_figures.core import records
from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.models.model_info import read_model_info
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.labelled_states import HiddenStates
from llm_figures.probe.protocol import PRESETS, Protocol
from llm_figures.probe.schema import read_layer_columns
from llm_figures.probe.stored_states import StoredStates
from llm_figures.provenance.manifest import FORMAT, PROJECT
from llm_figures.workflow.figures import FIGURE_TABLE, FURTHER_TARGETS

MODEL_INFO, MANIFEST = "model.json", "manifest.json"
# {table: its file}, those that figures are drawn from under the names of the figures.
TABLES = {name: source.scores for name, source in FIGURE_TABLE.items()} | {
    "claims": "claims.parquet",
    "answers": "forward/answers.parquet",
}
# {table: the target that makes it}, where it is not of the same name.
TARGETS = {name: source.beside for name, source in FIGURE_TABLE.items() if source.beside} | {
    "answers": "probe_auc"
}
# Columns without which a file is one of another version, by the beginning of its path. Tables of
# figures outside the target `figures` have their own.
NEEDED = {
    "attention/sink_map.parquet": {"input", "tokens", "layer", "component", "head", "position",
                                   "value"},
    "attention/": {"input", "component", "stage", "query_position", "key_position", "weight"},
    "probe/": {"layer", "token", "metric", "control", "mean", "ci_low", "ci_high", "gain", "n"},
    "modules/": {"layer", "projection", "metric", "value"},
    "claims.parquet": {"figure", "claim", "statement", "statistic", "threshold", "verdict"},
    "choices.parquet": {"operation", "over", "scope", "verdict"},
    "forward/answers.parquet": {"question_id", "group", "split_group", "correct", "valid",
                                "hold_out"},
    "forward/attention_states.parquet": {"input", "layer", "model_layers", "heads", "tokens",
                                         "sink_strength", "pair_index", "bias", "query", "key"},
    "forward/hidden_states/": {"question_id", "token"},
}  # fmt: skip
# Only in folders that are, or were drawn from, an archive of `snakemake bundle`.
ARCHIVED = ("bundle.json", "redraw.json")
# Scores of the probe's protocols, the configured one first, and the targets that make them.
PROTOCOLS = {"scores": "probe_auc", **dict.fromkeys(PRESETS, "probe_presets")}


class Results:
    """The results of one model.

    folder: results/{model}, wherever it is.

    Raises:
        UserError: no such folder, or none of a model; results of another version.

    model: the model's name. model_info: its model.json, as a dict.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        _check_folder(self.folder)
        self.model_info = read_model_info(self.folder / MODEL_INFO)
        self.model = self.model_info.get("name", self.folder.name)
        self._made_by = self._check_version()

    def __repr__(self) -> str:
        tables = ", ".join(self.tables) or "none"
        return f"Results of {self.model} in {self.folder}; tables: {tables}"

    @property
    def tables(self) -> list[str]:
        """The names of the tables that are there, for `table`."""
        return [name for name, file in TABLES.items() if (self.folder / file).is_file()]

    @property
    def manifest(self) -> dict:
        """manifest.json: the config, versions, device and sha256 of what was made.

        Raises:
            UserError: it is missing or damaged.
        """
        path = self.folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing; make it with: snakemake figures") from None
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"{path} cannot be read ({reason}); remove it and run: snakemake figures"
            ) from None
        if not isinstance(manifest, dict):
            raise UserError(f"{path} is no manifest; remove it and run: snakemake figures")
        return manifest

    def table(self, name: str) -> pd.DataFrame:
        """A tidy table.

        name: a figure, for the table that it is drawn from ("mean_qkv", "probe_auc", "module_map",
            …), "claims", "choices" or "answers"; or the path of a Parquet file below the folder.

        docs/notebook.md lists the columns. `attrs` of the probe's scores has the protocol.

        Raises:
            UserError: an unknown name; a table that is missing (with the target that makes it),
                damaged, or of another version.
        """
        file = TABLES.get(name)
        inside = Path(str(name))
        if inside.suffix == ".parquet" and not (inside.is_absolute() or ".." in inside.parts):
            file = inside.as_posix()
        if file is None:
            raise UserError(
                f"{self.folder}: no table is called {name!r}; there are "
                f"{', '.join(TABLES)}, and paths of Parquet files below the folder"
            )
        target = TARGETS.get(name, name if name in TABLES else None)
        return read_frame(self._find_file(file, target))

    def caption(self, figure: str) -> str:
        """The caption of a figure, or of a further one such as module_map_output_rms.

        Raises:
            UserError: the figure is not made.
        """
        path = self.folder / "figures" / f"{figure}.caption.txt"
        if not path.is_file():
            there = sorted(file.name.split(".")[0] for file in path.parent.glob("*.caption.txt"))
            known = figure in FIGURE_TABLE
            make = (
                f"make it with: snakemake {TARGETS.get(figure, figure)}"
                if known
                else (f"no figure is called {figure!r}")
            )
            raise UserError(
                f"{path} is missing; {make} (there are {', '.join(there) or 'no figures'})"
            )
        return path.read_text(encoding="utf-8").strip()

    def hidden_states(self, layer: int, token: str, site: str | None = None) -> HiddenStates:
        """The states of one layer at a named token, with labels and groups, as the probe gets them.

        layer: 0 is the embeddings, n the output of block n, counted from 1.
        token: a token of the figure probe_auc, such as "exact_answer_last".
        site: "residual", "attention", "mlp", "mlp_input" or "head"; by default that of the figure.

        Only the layer's own column is read.

        Raises:
            UserError: no such layer, token or site; files that are missing, damaged, of another
                version, or not made from one another.
        """
        protocol, scores_file, target = self._find_protocol(site)
        scores = read_frame(scores_file)
        tokens = scores.attrs["tokens"]
        token = str(token)  # -1, too
        if token not in tokens:
            raise UserError(
                f"{self.folder}: token {token!r} is not probed; the tokens are {', '.join(tokens)} "
                "(config: figures.probe_auc.tokens)"
            )
        states = self._find_shards(protocol.site, target)
        columns = read_layer_columns(states[0])
        if not isinstance(layer, int | np.integer) or layer not in range(len(columns)):
            raise UserError(
                f"{self.folder}: layer {layer!r} has no hidden states; layers are 0 (embeddings) "
                f"to {len(columns) - 1}"
            )
        file = self._find_file(TABLES["answers"], target)
        answers, cells, rows = read_cells(file, states, tokens, protocol)
        self._check_made_from(file, [scores_file, *states], target)
        cell, own = next(
            (cell, own) for cell, own in zip(cells, rows, strict=True) if cell.token == token
        )
        of_cells = (scores["token"] == token) & (scores["layer"] >= 0)
        counts = scores.loc[of_cells, "n"].unique().tolist()
        if counts != [len(own)]:
            raise UserError(
                f"{self.folder}: the probe's scores are of {counts} answers at {token}, the hidden "
                f"states of {len(own)}: they are not of one run; run: snakemake {target}"
            )
        groups = answers.set_index("question_id")["group"].fillna("")
        return HiddenStates(
            X=StoredStates(states, columns[layer])[own],
            y=cell.labels,
            groups=groups.loc[cell.questions].to_numpy(dtype=str),
            question_ids=cell.questions,
            splits=[(np.flatnonzero(s.train), np.flatnonzero(s.test)) for s in cell.splits],
            layer=layer,
            token=token,
            site=protocol.site,
            model=self.model,
            weights=self.model_info.get("weights"),
        )

    def queries_keys(self, input: int, layer: int) -> LayerStates:
        """Queries and keys of one layer for one text, as the attention kernel sees them.

        input: the text's number, counted from 1. layer: counted from 0.

        `query` is [heads, tokens, head_dim], `key` [key-value heads, tokens, head_dim]; `tokens`,
        `scaling`, `window` and so on say how they become weights. Maps of an intervention are
        `states.intervene(Intervention("query", "mean", over="features")).compute_weights()`,
        [heads, tokens (query), tokens (key)].

        Raises:
            UserError: no such text or layer; a file that is missing, damaged or of another version.
        """
        path = self._find_file("forward/attention_states.parquet", "mean_qkv")
        every = [states for states in open_states(path) if states.intervention is None]
        found = next((s for s in every if (s.input, s.layer) == (input, layer)), None)
        if found is None:
            inputs, layers = ({getattr(s, key) for s in every} for key in ("input", "layer"))
            raise UserError(
                f"{path}: has no queries and keys of input {input!r}, layer {layer!r}; inputs are "
                f"{_list(inputs)}, layers {_list(layers)}"
            )
        return found.load()

    def _find_file(self, file: str, target: str | None) -> Path:
        """The path of a file that is there and has the columns of this version.

        target: what makes it, where that is known.
        """
        path = self.folder / file
        if not path.is_file():
            raise UserError(f"{path} is missing{self._advise(path, target)}")
        further = {FIGURE_TABLE[name].scores for name in FURTHER_TARGETS}
        start = next((start for start in NEEDED if file.startswith(start)), None)
        if start is not None and (start == file or file not in further):
            self._check_columns(path, NEEDED[start], target)
        return path

    def _advise(self, missing: Path, target: str | None) -> str:
        """What to do about a missing file, to follow that in a message."""
        archived = any((self.folder / name).is_file() for name in ARCHIVED)
        if archived and missing.is_relative_to(self.folder / "forward"):
            return ": archives hold no answers and no states; the folder of the run itself has them"
        return f"; make it with: snakemake {target}" if target else ""

    def _check_columns(self, path: Path, needed: Collection[str], target: str | None) -> None:
        try:
            missing = sorted(needed - set(pq.read_schema(path).names))
        except (OSError, pa.ArrowInvalid) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{path} cannot be read ({reason}); remove it and run again") from None
        if missing:
            raise self._other_version(f"{path} lacks {', '.join(missing)}", target)

    def _other_version(self, what: str, target: str | None) -> UserError:
        made, own = self._made_by, find_own_version()
        by = f"llm-figures {made}, and this is {own}" if made else "another version of llm-figures"
        if made and made == own:
            by = f"another commit of llm-figures {own}"
        again = f"make it again with: snakemake {target}" if target else "make it again"
        return UserError(f"{what}: made by {by}; {again}")

    def _check_made_from(self, answers: Path, files: Collection[Path], target: str) -> None:
        """Refuse files whose records say that they were made from other answers."""
        digest = sha256(answers)
        for path in files:
            record = records.read_record(records.record_path(path, self.folder))
            inputs = record.inputs if record else {}
            of = [found for name, found in inputs.items() if name.endswith(f"/{TABLES['answers']}")]
            if any(found not in (None, digest) for found in of):
                raise UserError(
                    f"{path} was made from other answers than {answers.name}: they are not of one "
                    f"run; run: snakemake {target}"
                )

    def _find_protocol(self, site: str | None) -> tuple[Protocol, Path, str]:
        """The protocol of the first scores of a site, the file of these scores, and its target."""
        there = []
        for name, target in PROTOCOLS.items():
            file = f"probe/{name}.parquet"
            if site is not None and not (self.folder / file).is_file():
                continue
            path = self._find_file(file, target)
            protocol = self._read_protocol(read_frame(path), file, target)
            if site in (None, protocol.site):
                return protocol, path, target
            there.append(protocol.site)
        raise UserError(
            f"{self.folder}: no probe reads the site {site!r}; there are scores of "
            f"{', '.join(there) or 'no site'}; those of another are made with config: probe.site, "
            "by: snakemake probe_auc"
        )

    def _read_protocol(self, scores: pd.DataFrame, file: str, target: str) -> Protocol:
        """The protocol that a file of scores has in its metadata."""
        try:
            if scores.attrs.get("tokens"):
                return read_options(Protocol, scores.attrs.get("protocol"), file)
        except UserError:
            pass
        raise self._other_version(f"{self.folder / file} does not say its protocol", target)

    def _find_shards(self, site: str, target: str) -> list[Path]:
        """The files of a site's hidden states, in the order of their shards."""
        folder = self.folder / "forward" / "hidden_states" / site
        numbers: dict[int, dict[int, Path]] = {}
        for path in folder.glob("*-of-*.parquet"):
            if match := re.fullmatch(r"(\d+)-of-(\d+)", path.stem):
                numbers.setdefault(int(match[2]), {})[int(match[1])] = path
        whole = {count: shards for count, shards in numbers.items() if len(shards) == count}
        if not whole:
            lacking = "is not complete" if numbers else "is missing"
            raise UserError(f"{folder} {lacking}{self._advise(folder, target)}")
        if len(whole) > 1:
            # files of an earlier number of shards are left
            config = self.manifest.get("config")
            used = config.get("shards") if isinstance(config, dict) else None
            whole = {used: whole[used]} if used in whole else whole
        if len(whole) > 1:
            raise UserError(
                f"{folder} has files of {_list(whole)} shards; remove those of earlier runs"
            )
        ((_, shards),) = whole.items()
        for path in shards.values():
            self._check_columns(path, NEEDED["forward/hidden_states/"], target)
        return [shards[number] for number in sorted(shards)]

    def _check_version(self) -> str | None:
        """The version that made the results; None if nothing says so.

        Raises:
            UserError: another version, whose files may mean something else. By semantic versioning
                it is one of another major or minor number.
        """
        own = find_own_version()
        record = records.record_path(self.folder / MODEL_INFO, self.folder)
        formats = {}
        if record.is_file():
            formats[record] = _read_dict(record).get("format"), records.FORMAT
        manifest = self.manifest if (self.folder / MANIFEST).is_file() else {}
        if manifest:
            formats[self.folder / MANIFEST] = manifest.get("format"), FORMAT
        project = manifest.get("project")
        made = project.get("version") if isinstance(project, dict) else None
        made = made if isinstance(made, str) else None
        by = f" (llm-figures {made})" if made else ""
        for path, (found, known) in formats.items():
            if found != known:
                raise UserError(
                    f"{path}: format {found}{by}; this version"
                    f"{f' ({own})' if own else ''} reads format {known}: read the results with the "
                    "version that made them, or make them again with: snakemake figures"
                )
        if made and own and made.split(".")[:2] != own.split(".")[:2]:
            raise UserError(
                f"{self.folder} was made by llm-figures {made}, and this is {own}: read the "
                "results with the version that made them, or make them again with: snakemake "
                "figures"
            )
        return made


def find_own_version() -> str | None:
    """The version of this library: of the clone that it is in, or of the installed package."""
    try:
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == "llm-figures":  # installed, it may stand in a project of the user's
            return project["version"]
    except (OSError, ValueError, KeyError):
        pass
    try:
        return version("llm-figures")
    except PackageNotFoundError:
        return None


def _check_folder(folder: Path) -> None:
    """Refuse what is not the folder of a model, and say what it is."""
    if (folder / MODEL_INFO).is_file():
        return
    if folder.is_file():
        advice = (
            f"; draw the figures of an archive with: snakemake figures --config bundle={folder}"
            if folder.suffix == ".zip"
            else ""
        )
        raise UserError(f"{folder} is a file, not a folder results/{{model}}{advice}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder (the working directory is {Path.cwd()})")
    models = sorted(path.parent.name for path in folder.glob(f"*/{MODEL_INFO}"))
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    holds = f"folders of models: {', '.join(models)}" if models else _list(there, 12) or "nothing"
    raise UserError(
        f"{folder} has no {MODEL_INFO}, so it is not a folder results/{{model}}; it holds {holds}"
    )


def _read_dict(path: Path) -> dict:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _list(items: Collection, most: int = 40) -> str:
    """Items in order, cut if there are many; numbers without gaps as a range."""
    items = sorted(items)
    numbers = len(items) > 2 and all(isinstance(item, int) for item in items)
    if numbers and items[-1] - items[0] == len(items) - 1:
        return f"{items[0]} to {items[-1]}"
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more
