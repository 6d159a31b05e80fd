"""The command `llm-figures`: Snakemake, once the config files of its command line can be read.

Snakemake reads them before the Snakefile, so nothing there can say which file is damaged, or that a
target behind --configfile was taken for a file.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from llm_figures.core.errors import UserError
from llm_figures.core.text_files import describe_yaml_error, read_user_yaml


def main(arguments: Sequence[str] | None = None) -> None:
    """Run Snakemake with these arguments, by default the command line's, and end the process."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        check_arguments(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
    from snakemake.cli import main as run_snakemake

    run_snakemake(arguments)


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the config files and values of a command line of Snakemake.

    Raises:
        UserError: a file is missing or cannot be read, or a target stands in the place of a file or
            of a value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="*", default=[])
    parser.add_argument("--config", "-C", nargs="*", default=[])
    given, _ = parser.parse_known_args(arguments)
    for word in given.config:
        if "=" not in word:
            raise UserError(f"--config: {word!r} is not KEY=VALUE; {_targets_first(word)}")
    for word in given.configfile:
        path = Path(word)
        if not path.is_file():
            advice = (
                "correct the path" if path.suffix or path.name != word else _targets_first(word)
            )
            raise UserError(f"--configfile: {word}: no such file in {Path.cwd()}; {advice}")
        _check_file(path)


def _targets_first(word: str) -> str:
    return f"a target comes before the options: llm-figures {word} --configfile mine.yaml"


def _check_file(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        try:
            content = json.loads(text)  # which may be indented with tabs
        except ValueError:
            content = read_user_yaml(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {describe_yaml_error(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text in UTF-8; save it as such") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({str(error)[:120]})") from None
    if not isinstance(content, dict | None):
        raise UserError(f"{path}: holds no keys; write lines of the form key: value")


if __name__ == "__main__":
    main()
