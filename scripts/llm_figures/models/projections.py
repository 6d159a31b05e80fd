"""Watch the projections of a loaded model as it runs, and replace their outputs.

One mechanism serves every family of `projection_families.FAMILIES`. A callback receives each
application of a projection to some tokens, and may return other outputs, with which the pass
continues.
"""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from llm_figures.core.errors import UserError
from llm_figures.models.loading import decoder_layers
from llm_figures.models.projection_families import check_query, find_places
from llm_figures.models.projection_layouts import (
    DOWN,
    GATE,
    UP,
    O,
    Place,
    Q,
    heads_of,
    output_rows,
)


@dataclass(frozen=True)
class Projection:
    """A linear map in one block.

    module: the linear torch module that contains it or, for experts, the module of all experts.
    rows: its outputs among those of the module.
    """

    layer: int
    name: str
    place: Place
    module: torch.nn.Module
    rows: slice | np.ndarray

    def weight(self, expert: int | None = None) -> torch.Tensor:
        """[d_out, d_in], a view of the model's weights where the rows are a slice.

        Raises:
            UserError: the weights are quantised, with scales beside them.
        """
        if hasattr(self.module, "weight_scale"):
            raise UserError(
                f"module_map: layer {self.layer}, {self.name}, is quantised "
                f"({type(self.module).__name__}), which metrics of weights cannot read; use the "
                "unquantised checkpoint"
            )
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
        """The number of experts; None for a single map."""
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

    inputs: [n, d_in]. outputs: [n, d_out], with any bias. tokens: [n], positions in the flattened
    batch of tokens [sequences × tokens]. expert: its number; None without experts. shares: [n], the
    router's weight of that expert for each token; None without experts.
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


def find_projections(
    model: PreTrainedModel, layers: Collection[int] | None = None
) -> list[Projection]:
    """Every projection of the blocks `layers` (default all), by block, in the figure's order.

    A block has the projections that it uses: hybrids' blocks without attention have none of it, and
    blocks that take keys and values of an earlier one have no projections of these.

    Raises:
        UserError: the family keeps its projections in an unknown place; blocks share a module.
    """
    config = model.config.get_text_config(decoder=True).to_dict()
    heads = heads_of(config)
    projections = []
    layer_of: dict[torch.nn.Module, int] = {}
    for layer, block in enumerate(decoder_layers(model)):
        if layers is not None and layer not in layers:
            continue
        shapes = {name: tuple(weights.shape) for name, weights in block.named_parameters()}
        places = find_places(config, layer, shapes)
        if Q in places and O in places:
            outputs, d_in = shapes[places[Q].weight][0], shapes[places[O].weight][-1]
            check_query(config.get("model_type"), layer, outputs, d_in, "module_map")
        for name, place in places.items():
            holder = block.get_submodule(
                place.path.rsplit(".", 1)[0] if place.experts else place.path
            )
            if layer_of.setdefault(holder, layer) != layer:
                raise UserError(
                    f"module_map: layers {layer_of[holder]} and {layer} of models of type "
                    f"{config['model_type']} share {place.path}, so that a cell would be of both"
                )
            d_out = shapes[place.weight][-1 if place.transposed else -2]
            rows = output_rows(place, d_out, heads)
            projections.append(Projection(layer, name, place, holder, rows))
    return projections


@contextmanager
def watch_projections(
    model: PreTrainedModel, watch: Watch, layers: Collection[int] | None = None
) -> Iterator[None]:
    """Call `watch` at each application of the projections of `layers` (default all) in the block.

    If it returns outputs [n, d_out], they replace the projection's. Experts run one by one, in
    plain matrix products. At the end, and after an exception, the model is as it was before.

    Raises:
        UserError: as `find_projections`.
    """
    by_module: dict[torch.nn.Module, list[Projection]] = {}
    for projection in find_projections(model, layers):
        by_module.setdefault(projection.module, []).append(projection)
    with ExitStack() as undo:
        for module, projections in by_module.items():
            if projections[0].place.experts:
                module.forward = _expert_by_expert(module, projections, watch)
                undo.callback(delattr, module, "forward")
            else:
                hook = _linear_hook(projections, watch)
                undo.callback(module.register_forward_hook(hook).remove)
        yield


def _linear_hook(projections: list[Projection], watch: Watch):
    def hook(module, args, output):
        inputs = args[0].reshape(-1, args[0].shape[-1])
        outputs = output.reshape(-1, output.shape[-1])
        tokens = torch.arange(len(inputs), device=inputs.device)
        changed = None
        for projection in projections:
            rows = projection.rows
            replacement = watch(Application(projection, inputs, outputs[:, rows], tokens))
            if replacement is not None:
                changed = outputs.clone() if changed is None else changed
                changed[:, rows] = replacement.to(changed.dtype)
        return None if changed is None else changed.view_as(output)

    return hook


def _expert_by_expert(experts: torch.nn.Module, projections: list[Projection], watch: Watch):
    """A forward pass [tokens, hidden] -> [tokens, hidden] of experts that runs them one by one."""
    by_name = {projection.name: projection for projection in projections}
    _check_experts(experts, by_name[UP].place)

    def replace(name, outputs, inputs, tokens, expert, shares):
        rows = by_name[name].rows
        replacement = watch(
            Application(by_name[name], inputs, outputs[:, rows], tokens, expert, shares)
        )
        if replacement is not None:
            outputs[:, rows] = replacement.to(outputs.dtype)

    def linear(name, states, expert):
        projection = by_name[name]
        weight = projection._parameter(projection.place.weight)[expert]
        biases = projection._parameter(projection.place.bias)
        return torch.nn.functional.linear(
            states,
            weight.T if projection.place.transposed else weight,
            None if biases is None else biases[expert],
        )

    def activate(inner):  # of up or, with a gate, of both
        if GATE not in by_name:
            return experts.act_fn(inner)
        if hasattr(experts, "_apply_gate"):
            return experts._apply_gate(inner)
        gate, up = inner.chunk(2, dim=-1)
        return up * experts.act_fn(gate)

    def run(expert, states, tokens, shares):
        inner = linear(UP, states, expert)
        for name in (UP, GATE):
            if name in by_name:
                replace(name, inner, states, tokens, expert, shares)
        states = activate(inner)
        outputs = linear(DOWN, states, expert)
        replace(DOWN, outputs, states, tokens, expert, shares)
        return outputs

    def forward(hidden_states, top_k_index, top_k_weights):
        result = torch.zeros_like(hidden_states)
        for expert in range(by_name[DOWN].experts):
            tokens, slot = torch.where(top_k_index == expert)
            if not len(tokens):
                continue
            shares = top_k_weights[tokens, slot]
            outputs = run(expert, hidden_states[tokens], tokens, shares)
            result.index_add_(0, tokens, (outputs * shares[:, None]).to(result.dtype))
        return result

    def forward_weighted(hidden_states):
        """Llama 4: all tokens for each expert, times the router's weight, 0 if not routed to it."""
        states = hidden_states.view(by_name[DOWN].experts, -1, hidden_states.shape[-1])
        result = torch.zeros_like(states)
        for expert, own in enumerate(states):
            tokens = own.any(dim=-1).nonzero()[:, 0]
            if len(tokens):
                result[expert, tokens] = run(expert, own[tokens], tokens, own.new_ones(len(tokens)))
        return result.view_as(hidden_states)

    routed = len(inspect.signature(type(experts).forward).parameters) > 2
    return forward if routed else forward_weighted


def _check_experts(experts: torch.nn.Module, up: Place) -> None:
    """Check that experts compute what their place says, as far as their class tells.

    Raises:
        UserError: they do more, or their tensors are laid out in another way.
    """
    said = {
        "has_gate": up.part is not None,
        "has_post_expert_norm": False,
        "is_transposed": up.transposed,
        "is_concatenated": up.fused != "alternating",
    }
    if differ := [name for name, value in said.items() if getattr(experts, name, value) != value]:
        raise UserError(
            f"module_map: experts of class {type(experts).__name__} are not as known: "
            f"{', '.join(f'{name} is {getattr(experts, name)}' for name in differ)}"
        )
