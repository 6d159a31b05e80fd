"""The measured process: one method of one work, on the task given as JSON."""

import json
import sys
from importlib import import_module


def main() -> None:
    task = json.loads(sys.argv[1])
    module, _, name = task["function"].partition(":")
    try:
        getattr(import_module(module), name)(task)
    except Exception as error:
        if type(error).__name__ != "UserError":  # of the pipeline, which peers do not have
            raise
        sys.exit(str(error))


if __name__ == "__main__":
    main()
