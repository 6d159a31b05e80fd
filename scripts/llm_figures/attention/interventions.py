"""The interventions of Query, Key and Value, written once for NumPy arrays and torch tensors.

The same code alters cached states (`scope: layer`) and the tensors inside a forward pass
(`scope: model`), so the two paths cannot drift apart.
"""

from dataclasses import dataclass

COMPONENTS = ("query", "key", "value")
OPERATIONS = ("mean", "scale")
MEAN_OVER = ("features", "tokens")
STAGES = ("after_rotary", "before_rotary")


@dataclass(frozen=True)
class Intervention:
    """One change of one component, as the attention kernel sees it or before rotary embedding.

    component: "query", "key" or "value".
    operation: "mean" replaces every entry by the mean `over` "features" (the head dimension, per
        token and head) or "tokens" (the positions, per feature and head); "scale" multiplies by
        `epsilon`.
    stage: where a query or key is changed, "after_rotary" or "before_rotary" embedding; a value
        is never rotated, so it plays no part there.
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
        """Whether the change needs the states before rotary embedding."""
        return self.stage == "before_rotary" and self.component != "value"

    def __call__(self, states):
        """Alter `states` [..., tokens, head_dim]; same type and shape out, input untouched."""
        if self.operation == "scale":
            return states * self.epsilon
        axis = -1 if self.over == "features" else -2
        mean = states.mean(axis=axis, keepdims=True)
        return (states - states) + mean  # broadcast, alike for NumPy and torch
