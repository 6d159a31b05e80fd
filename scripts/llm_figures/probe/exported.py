"""Exported probes: reading them, and the logits that they give to hidden states.

A folder holds probes.safetensors, the numbers, and probes.json, the card, which says what they are.
Reading them takes NumPy and safetensors, no torch and no model.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from llm_figures.core.errors import UserError
from llm_figures.probe.labelled_states import HiddenStates

# Increased when a reader of the previous format would misread this one.
FORMAT = 1
TENSORS, CARD = "probes.safetensors", "probes.json"
# The arrays of every probe, by the end of their name.
ARRAYS = {
    "weights": "[hidden], of the standardised state",
    "intercept": "[], of the standardised state",
    "mean": "[hidden], of the training states; 0 where the protocol does not standardise",
    "scale": "[hidden], their standard deviation; 1 for a feature that does not vary, and where "
    "the protocol does not standardise",
    "direction": "[hidden], weights / scale, in the space of the state itself",
    "bias": "[], intercept − direction · mean",
}


@dataclass(frozen=True)
class ExportedProbe:
    """A linear probe that detects a wrong answer, at one layer and token.

    weights, mean, scale: [hidden], float64. A state x has the logit
    weights · ((x − mean) / scale) + intercept = direction · x + bias.
    layer: 0 is the embeddings, n the site at block n, counted from 1. site: one of
    `protocol.Site`. about: the card's entry, with what the probe was fitted on and its held-out
    AUC.
    card: the whole card, with the model, the protocol and the tokens.
    """

    layer: int
    token: str
    site: str
    weights: np.ndarray = field(repr=False)
    intercept: float = field(repr=False)
    mean: np.ndarray = field(repr=False)
    scale: np.ndarray = field(repr=False)
    about: dict = field(repr=False)
    card: dict = field(repr=False)

    @property
    def direction(self) -> np.ndarray:
        """[hidden], in the space of the state itself: the gradient of the logit."""
        return self.weights / self.scale

    @property
    def bias(self) -> float:
        """The logit of a state of zeros."""
        return float(self.intercept - self.direction @ self.mean)

    def score(self, states: np.ndarray | HiddenStates) -> np.ndarray:
        """The logits of states [..., hidden]: [...], float64. Above 0 the answer is called wrong.

        Of an array nobody knows where it is from. `results.hidden_states(layer, token)` says so,
        and must be of the probe's model, site, layer and token.

        Raises:
            UserError: states of another size, that are no finite numbers, or that say that they are
                of others.
        """
        where = f"probe of layer {self.layer}, {self.token}"
        if isinstance(states, HiddenStates):
            self._check_origin(states, where)
            states = states.X
        try:
            states = np.asarray(states)
        except (TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"{where}: states are no array of numbers ({reason}); of a tensor of torch give "
                "tensor.detach().float().cpu()"
            ) from None
        if states.dtype.kind not in "fiu":
            raise UserError(f"{where}: states are of type {states.dtype}; give an array of numbers")
        size = len(self.weights)
        if states.ndim == 0 or states.shape[-1] != size:
            raise UserError(
                f"{where}: states have shape {states.shape}; the last axis must be the {size} "
                "features of the hidden state"
            )
        states = states.astype(np.float64)
        if not np.isfinite(states).all():
            raise UserError(f"{where}: states hold NaN or infinite values")
        return (states - self.mean) / self.scale @ self.weights + self.intercept

    def _check_origin(self, states: HiddenStates, where: str) -> None:
        own = self.card["model"]
        name, weights = own.get("name"), own.get("weights")
        if weights and states.weights and weights != states.weights:
            which = "other weights of" if name == states.model else f"{states.model}, not of"
            raise UserError(f"{where}: states are of {which} {name}, whose states it was fitted on")
        for key in ("site", "layer", "token"):
            if getattr(states, key) != getattr(self, key):
                raise UserError(
                    f"{where}, {self.site}: states are of {key} {getattr(states, key)}; to apply "
                    "it to others, give their array, states.X"
                )


def load(path: str | Path, layer: int | None = None, token: str | None = None) -> ExportedProbe:
    """The exported probe of a layer and token.

    path: the folder of an export, results/{model}/probe/export, or either of its files.
    layer, token: which; of several probes that are left, the one with the highest held-out AUC.

    Raises:
        UserError: no such probe; a file that is missing, damaged, or of another version.
    """
    every = load_all(path)
    token = None if token is None else str(token)  # -1, too
    asked = [
        probe
        for probe in every.values()
        if layer in (None, probe.layer) and token in (None, probe.token)
    ]
    if not asked:
        there = ", ".join(f"layer {layer} {token}" for layer, token in every) or "none"
        which = [f"layer {layer!r}"] * (layer is not None) + [f"{token}"] * (token is not None)
        raise UserError(
            f"{path}: has no probe of {', '.join(which) or 'any cell'}; there are {there}; others "
            "are made by: snakemake probes_export, with config: probe.export.cells"
        )
    return max(asked, key=lambda probe: probe.about["held_out"]["auc"])


def load_all(path: str | Path) -> dict[tuple[int, str], ExportedProbe]:
    """{(layer, token): probe} of an export, in the order of its card; see `load`."""
    folder = Path(path)
    if folder.name in (TENSORS, CARD):
        folder = folder.parent
    card = _read_card(folder / CARD)
    tensors = _read_tensors(folder / TENSORS, card)
    return {(probe.layer, probe.token): probe for probe in _make_probes(folder, card, tensors)}


def _read_card(path: Path) -> dict:
    again = "make it again with: snakemake probes_export"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; give the folder of an export, which is made by: snakemake "
            "probes_export"
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} cannot be read ({reason}); {again}") from None
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        raise UserError(f"{path} is not the card of exported probes; {again}")
    if card["format"] != FORMAT:
        made = card.get("made_by")
        by = f" (llm-figures {made.get('version')})" if isinstance(made, dict) else ""
        raise UserError(
            f"{path}: format {card['format']}{by}; this version reads format {FORMAT}: use the "
            "version that made it"
        )
    return card


def _read_tensors(path: Path, card: dict) -> dict[str, np.ndarray]:
    try:
        content = path.read_bytes()
    except OSError:
        raise UserError(f"{path} is missing; it belongs to the card beside it") from None
    if hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise UserError(
            f"{path} is not the file that {CARD} describes; get both again, or make them with: "
            "snakemake probes_export"
        )
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read ({error})") from None


def _make_probes(folder: Path, card: dict, tensors: dict) -> Iterator[ExportedProbe]:
    try:
        for about in card["probes"]:
            name, _ = about["tensors"], about["held_out"]["auc"]
            yield ExportedProbe(
                layer=about["layer"],
                token=about["token"],
                site=card["states"]["site"],
                weights=tensors[f"{name}.weights"],
                intercept=float(tensors[f"{name}.intercept"]),
                mean=tensors[f"{name}.mean"],
                scale=tensors[f"{name}.scale"],
                about=about,
                card=card,
            )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / CARD} does not describe {TENSORS} ({error}); make both again with: "
            "snakemake probes_export"
        ) from None
