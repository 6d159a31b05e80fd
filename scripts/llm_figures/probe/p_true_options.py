"""How the model is asked whether its own answers are true."""

from typing import Annotated

from pydantic import Field

from llm_figures.core.options import AnyText, Holds, NonEmpty, Options, Says
from llm_figures.probe.protocol import VARIANT

_P_TRUE = """\
Question: What is the capital of Greenland?
Proposed answer: Nuuk
Is the proposed answer true or false? True

Question: What is the chemical symbol of nihonium?
Proposed answer: Ni
Is the proposed answer true or false? False

Question: {question}
Proposed answer: {exact_answer}
Is the proposed answer true or false?"""


class PTrueVariant(Options):
    """How the model is asked whether its own answer is true."""

    prompt: Annotated[
        AnyText,
        Holds(("{question}",)),
        Holds(("{answer}", "{exact_answer}"), any_of=True),
    ] = _P_TRUE
    """Plain text, whatever prompt.style is

    Plain text, whatever prompt.style is. {question}, and {answer} or {exact_answer}, stand for
    the question and the model's own answer."""

    if_true: NonEmpty = " True"
    """What the model says for true

    What the model says for true. It is compared with if_false up to where the two differ."""

    if_false: NonEmpty = " False"
    """What the model says for false."""


VariantName = Annotated[
    AnyText,
    Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,29}$"),
    Says("a name of at most 30 letters, digits and _ that begins with a letter"),
]


class PTrue(PTrueVariant):
    """P(true), a baseline without a probe: the model is asked whether its own answer is true.

    Kadavath et al. 2022, arXiv 2207.05221.
    """

    variants: dict[VariantName, PTrueVariant] = Field(default={})
    """Other ways of asking, each a baseline p_true_NAME: {NAME: {prompt: …}}

    Other ways of asking by name, each with keys of this table (prompt, if_true, if_false). Their
    scores stand beside those of p_true, as the control p_true_NAME."""

    def templates(self) -> dict[str, tuple[str, PTrueVariant]]:
        """{column: (key in the config, how the model is asked)}, the main one first."""
        return {
            "p_true": ("probe.p_true", self),
            **{
                f"{VARIANT}{name}": (f"probe.p_true.variants.{name}", variant)
                for name, variant in self.variants.items()
            },
        }
