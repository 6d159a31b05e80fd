"""Interventions on Query, Key and Value, for NumPy arrays and torch tensors alike.

One implementation serves cached states (`scope: layer`) and forward passes (`scope: model`), so the
two cannot differ.
"""

from dataclasses import dataclass

COMPONENTS = ("query", "key", "value")
# In place of a component, where there is no intervention.
CLEAN = "clean"
OPERATIONS = ("mean", "scale")
MEAN_OVER = ("features", "tokens")
STAGES = ("after_rotary", "before_rotary")


@dataclass(frozen=True)
class Intervention:
    """An intervention on one component.

    component: "query", "key" or "value".
    operation: "mean" replaces every entry by the mean `over` "features" (the head dimension, per
        token and head) or "tokens" (the positions, per feature and head). "scale" multiplies by
        `epsilon`.
    stage: "after_rotary" changes a query or key as the attention kernel sees it, "before_rotary"
        before its rotary embedding. Values are not rotated, so their stage makes no difference.
    """

    component: str
    operation: str
    over: str | None = None
    epsilon: float | None = None
    stage: str = "after_rotary"

    def __post_init__(self):
        if self.component not in COMPONENTS:
            raise ValueError(f"component {self.component!r}; one of {', '.join(COMPONENTS)}")
        if self.operation == "mean" and self.over not in MEAN_OVER:
            raise ValueError(f"mean over {self.over!r}; one of {', '.join(MEAN_OVER)}")
        if self.operation == "scale" and self.epsilon is None:
            raise ValueError("scale needs an epsilon")
        if self.operation not in OPERATIONS:
            raise ValueError(f"operation {self.operation!r}; one of {', '.join(OPERATIONS)}")
        if self.stage not in STAGES:
            raise ValueError(f"stage {self.stage!r}; one of {', '.join(STAGES)}")

    @property
    def unrotates(self) -> bool:
        """Whether the intervention needs the states before rotary embedding."""
        return self.stage == "before_rotary" and self.component != "value"

    def __call__(self, states):
        """The changed `states` [..., tokens, head_dim], a new array of the same type and shape."""
        if self.operation == "scale":
            return states * self.epsilon
        axis = -1 if self.over == "features" else -2
        mean = states.mean(axis=axis, keepdims=True)
        return (states - states) + mean  # broadcasts in NumPy and torch
