"""Options of what is taken over from earlier runs."""

from llm_figures.core.options import Flag, Options


class Reuse(Options):
    """What of an earlier run is used as it is. No file differs by it."""

    strict_versions: Flag = False
    """Make again what other versions of Python or of the packages made

    Whether files that were made with other versions of Python or of the packages than are installed
    are made again. Otherwise a run names the versions and uses the files."""
