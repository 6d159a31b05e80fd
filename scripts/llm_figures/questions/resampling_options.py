"""Options of the sampled answers, and of the kinds of error that follow from them."""

from typing import Annotated

from pydantic import Field

from llm_figures.core.options import Integer, Number, Options, Seed

# The published thresholds count among so many samples.
PUBLISHED_COUNT = 30

Samples = Annotated[Number, Field(ge=0, le=PUBLISHED_COUNT)]
# Of a kind that is tried first: at 0 every question would be of it.
SomeSamples = Annotated[Number, Field(gt=0, le=PUBLISHED_COUNT)]


class ErrorTaxonomy(Options):
    """Thresholds of the kinds of error, in samples of 30; scaled to resamples.count.

    Orgad et al. 2025 (arXiv 2410.02707), section 5. A question is of the first kind that applies.
    """

    refuses: SomeSamples = 15
    """Refuses: at least so many samples decline to answer."""

    consistent: SomeSamples = 15
    """Consistently right: at least so many are right; wrong: as many give one wrong answer

    Consistently right: at least so many samples are right. Consistently wrong: at least so many
    give the same wrong answer."""

    competing: Samples = 5
    """Two competing answers: the right one and a wrong one have at least so many each

    Two competing answers: the right answer and the most frequent wrong one have at least so many
    samples each."""

    competing_apart: Samples = 5
    """and differ by at most so many

    Two competing answers: their numbers of samples differ by at most so many."""

    many: Samples = 10
    """Many answers: more than so many different ones

    Many answers: more than so many different ones, of which all right ones count as one."""


class Resamples(Options):
    """Sampled answers to every question, for error_kinds and answer_choice.

    They are made with the section prompt, but for its temperature, top_p and seed.
    """

    count: Annotated[Integer, Field(ge=2, le=1000)] = 10
    """Samples of a question (published: 30)."""

    temperature: Annotated[Number, Field(ge=0.01, le=10)] = 1.0
    """Of the softmax that is sampled from."""

    seed: Seed = 0
    """Seed of the samples, and of the limited questions."""

    limit: Annotated[Integer, Field(ge=40)] | None = None
    """Number of questions, sampled with seed; null takes all."""

    taxonomy: ErrorTaxonomy = ErrorTaxonomy()
    """Thresholds of the kinds of error, in samples of 30; scaled to count."""
