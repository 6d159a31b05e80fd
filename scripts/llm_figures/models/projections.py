"""The projections of a loaded model, watched and altered as it runs.

One mechanism for every family of `families.FAMILIES`: a projection is a linear module, some outputs
of a fused one, or one map per expert. Whoever watches gets each application of it, token by token,
and may give other outputs, with which the pass goes on.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from llm_figures.core.errors import UserError
from llm_figures.models.loading import decoder_layers
from llm_figures.models.projection_layouts import (
    DOWN,
    GATE,
    UP,
    Place,
    heads_of,
    output_rows,
    places,
)


@dataclass(frozen=True)
class Projection:
    """One column's linear map in one block.

    module: the linear module that holds it or, for experts, the module of all experts.
    rows: which of the module's outputs are its own.
    """

    layer: int
    name: str
    place: Place
    module: torch.nn.Module
    rows: slice | np.ndarray

    def weight(self, expert: int | None = None) -> torch.Tensor:
        """[d_out, d_in], a view of the model's weights where the rows are a slice."""
        stored = self._parameter(self.place.weight)
        stored = stored if expert is None else stored[expert]
        return (stored.T if self.place.transposed else stored)[self.rows]

    def bias(self, expert: int | None = None) -> torch.Tensor | None:
        """[d_out], or None."""
        stored = self._parameter(self.place.bias)
        if stored is None:
            return None
        return (stored if expert is None else stored[expert])[self.rows]

    @property
    def experts(self) -> int | None:
        """How many maps there are; None for a single one."""
        return len(self._parameter(self.place.weight)) if self.place.experts else None

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of one map."""
        return tuple(self.weight(0 if self.place.experts else None).shape)

    def _parameter(self, name: str) -> torch.Tensor | None:
        return getattr(self.module, name.rsplit(".", 1)[-1], None)


@dataclass(frozen=True)
class Application:
    """A projection applied to some tokens in a forward pass.

    inputs: [n, d_in]. outputs: [n, d_out], with any bias. tokens: [n], places in the batch's
    tokens, row by row. expert: whose map it is, None where there are no experts. shares: [n], the
    router's weight of that expert for each token; None where there are no experts.
    """

    projection: Projection
    inputs: torch.Tensor
    outputs: torch.Tensor
    tokens: torch.Tensor
    expert: int | None = None
    shares: torch.Tensor | None = None

    @property
    def linear(self) -> torch.Tensor:
        """The outputs without the bias."""
        bias = self.projection.bias(self.expert)
        return self.outputs if bias is None else self.outputs - bias


Watch = Callable[[Application], torch.Tensor | None]


def projections(model: PreTrainedModel, layers: Collection[int] | None = None) -> list[Projection]:
    """Every projection of the blocks `layers` (default all), by block, in the figure's order.

    Raises:
        UserError: the family keeps its projections in a place that is not known.
    """
    heads = heads_of(model.config.to_dict())
    found = []
    for layer, block in enumerate(decoder_layers(model)):
        if layers is not None and layer not in layers:
            continue
        shapes = {name: tuple(weights.shape) for name, weights in block.named_parameters()}
        for name, place in places(model.config.model_type, shapes).items():
            holder = block.get_submodule(
                place.path.rsplit(".", 1)[0] if place.experts else place.path
            )
            d_out = shapes[place.weight][-1 if place.transposed else -2]
            rows = output_rows(place, d_out, heads)
            found.append(Projection(layer, name, place, holder, rows))
    return found


@contextmanager
def watched(
    model: PreTrainedModel, watch: Watch, layers: Collection[int] | None = None
) -> Iterator[None]:
    """Call `watch` at each application of every projection of `layers` inside the block.

    What it returns, [n, d_out] or None for no change, takes the place of the outputs. Experts then
    run one by one, in plain matrix products. The model is afterwards what it was before, also after
    an exception.

    Raises:
        UserError: as `projections`.
    """
    together: dict[torch.nn.Module, list[Projection]] = {}
    for projection in projections(model, layers):
        together.setdefault(projection.module, []).append(projection)
    with ExitStack() as undo:
        for module, parts in together.items():
            if parts[0].place.experts:
                module.forward = _expert_by_expert(module, parts, watch)
                undo.callback(delattr, module, "forward")
            else:
                undo.callback(module.register_forward_hook(_linear_hook(parts, watch)).remove)
        yield


def _linear_hook(parts: list[Projection], watch: Watch):
    def hook(module, args, output):
        inputs = args[0].reshape(-1, args[0].shape[-1])
        outputs = output.reshape(-1, output.shape[-1])
        tokens = torch.arange(len(inputs), device=inputs.device)
        changed = None
        for part in parts:
            made = watch(Application(part, inputs, outputs[:, part.rows], tokens))
            if made is not None:
                changed = outputs.clone() if changed is None else changed
                changed[:, part.rows] = made.to(changed.dtype)
        return None if changed is None else changed.view_as(output)

    return hook


def _expert_by_expert(experts: torch.nn.Module, parts: list[Projection], watch: Watch):
    """The forward of a module of experts, [tokens, hidden] in and out, each expert by itself."""
    named = {part.name: part for part in parts}
    if getattr(experts, "has_post_expert_norm", False) or not getattr(experts, "has_gate", True):
        raise UserError(
            f"module_map: experts of class {type(experts).__name__} do more than gate, up and down"
        )

    def applied(part, outputs, inputs, tokens, expert, shares):
        made = watch(Application(part, inputs, outputs[:, part.rows], tokens, expert, shares))
        if made is not None:
            outputs[:, part.rows] = made.to(outputs.dtype)

    def linear(part, states, expert):
        stored, bias = part.module.get_parameter(part.place.path.rsplit(".", 1)[-1])[expert], None
        if (all_biases := part._parameter(part.place.bias)) is not None:
            bias = all_biases[expert]
        return torch.nn.functional.linear(
            states, stored.T if part.place.transposed else stored, bias
        )

    def forward(hidden_states, top_k_index, top_k_weights):
        result = torch.zeros_like(hidden_states)
        for expert in range(named[DOWN].experts):
            tokens, slot = torch.where(top_k_index == expert)
            if not len(tokens):
                continue
            shares, states = top_k_weights[tokens, slot], hidden_states[tokens]
            both = linear(named[UP], states, expert)
            for name in (UP, GATE):
                applied(named[name], both, states, tokens, expert, shares)
            states = experts._apply_gate(both)
            given = linear(named[DOWN], states, expert)
            applied(named[DOWN], given, states, tokens, expert, shares)
            result.index_add_(0, tokens, (given * shares[:, None]).to(result.dtype))
        return result

    return forward
