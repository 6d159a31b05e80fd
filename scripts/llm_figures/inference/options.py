"""Options of generation: how a question is put to the model, and how it answers."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from llm_figures.core.options import (
    AnyText,
    Holds,
    Integer,
    Items,
    NonEmpty,
    Number,
    Options,
    Says,
    Seed,
    by_kind,
    refusal,
)

_PREAMBLE = """\
Q: What is the capital of Greenland?
A: The capital of Greenland is Nuuk.

Q: What is the currency of Macau?
A: The currency of Macau is the pataca.

Q: What is the continent of Liechtenstein?
A: The continent of Liechtenstein is Europe.

Q: What is the official language of Andorra?
A: The official language of Andorra is Catalan.

Q: What is the chemical symbol of nihonium?
A: The chemical symbol of nihonium is Nh.

Q: What is the atomic number of dubnium?
A: The atomic number of dubnium is 105.

Q: What is the capital of the US state of Wyoming?
A: The capital of the US state of Wyoming is Cheyenne.

"""


class QuestionFormat(Options):
    """How a question is put to the model, and what ends its answer."""

    style: Literal["few_shot", "completion", "chat"] = "few_shot"
    """few_shot: preamble + template; completion: template; chat: system + user

    few_shot is preamble and template. completion is template alone. chat is the model's own chat
    template around system and user."""

    preamble: AnyText = _PREAMBLE
    """For few_shot: text before every question, such as solved ones

    For few_shot: text before every question, such as solved ones. It is computed once. Questions
    that occur in it are left out of the probe."""

    template: Annotated[AnyText, Holds(("{question}",))] = "Q: {question}\nA:"
    """For few_shot and completion: the question itself

    For few_shot and completion: the text in which {question} stands for the question."""

    system: AnyText | None = None
    """For chat: the system message; null for none."""

    user: Annotated[AnyText, Holds(("{question}",))] = "{question}"
    """For chat: the user's message

    For chat: the user's message, in which {question} stands for the question."""

    stop: Annotated[
        Literal["auto"] | Annotated[tuple[NonEmpty, ...], Items()],
        by_kind,
        Says("auto or a list of texts"),
    ] = "auto"
    """A list of texts, or auto: a new line, nothing for chat

    An answer ends before any of these strings that follows its leading white space, and at the
    model's own end of text. auto is a new line for few_shot and completion, nothing for chat."""

    max_new_tokens: Annotated[Integer, Field(ge=2, le=4096)] = 32
    """Longest answer, in tokens."""

    def stop_strings(self) -> tuple[str, ...]:
        """The strings that end an answer, with auto resolved."""
        if self.stop == "auto":
            return () if self.style == "chat" else ("\n",)
        return self.stop

    def shown_preamble(self) -> str:
        """The text before every question; empty unless the style is few_shot."""
        return self.preamble if self.style == "few_shot" else ""


def _check_temperature(temperature: float) -> float:
    if 0 < temperature < 1e-6:
        raise refusal(" is too small to sample with; write 0 for the likeliest token")
    return temperature


class Sampling(Options):
    """How the next token is chosen.

    Above temperature 0 it is sampled from the softmax of logits / temperature, cut to the likeliest
    tokens that together have probability top_p (nucleus sampling, Holtzman et al. 2020).
    """

    temperature: Annotated[Number, Field(ge=0, le=10), AfterValidator(_check_temperature)] = 0
    """0: the likeliest token; above 0: sampled with seed

    0 takes the likeliest token; above 0 samples, with seed."""

    top_p: Annotated[Number, Field(gt=0, le=1)] = 1
    """Sampling keeps the likeliest tokens that together have this probability."""

    seed: Seed = 0
    """Seed of sampling."""


class Prompt(Sampling, QuestionFormat):
    """How a question is put to the model, and how it answers."""

    def relevant(self) -> dict[str, Any]:
        """The options that answers depend on, as a plain dict, without those of other styles."""
        other_styles = {
            "few_shot": {"system", "user"},
            "completion": {"preamble", "system", "user"},
            "chat": {"preamble", "template"},
        }
        left_out = other_styles[self.style] | (set() if self.temperature else {"top_p", "seed"})
        return {key: value for key, value in self.plain().items() if key not in left_out}
