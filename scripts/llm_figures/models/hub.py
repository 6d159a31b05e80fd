"""Downloads from the model hub at a pinned revision. Cached files need no network."""

from pathlib import Path

from llm_figures.core.errors import UserError
from llm_figures.core.write_errors import find_write_problem

# Of a repository's files, this many are named when none matches.
LISTED = 10


def fetch_snapshot(
    repo: str, revision: str, patterns: list[str], where: str, kind: str = "model"
) -> Path:
    """Download the files of `repo` that match any of `patterns`; return their local folder.

    revision: the 40 hex digits of a commit. where: how messages begin. kind: model or dataset.

    Raises:
        UserError: no connection, no such repository or revision, no access, no room.
    """
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=patterns)
        )
    except GatedRepoError:
        reason = f"the {kind} is gated; accept its terms on the hub and log in (hf auth login)"
    except RepositoryNotFoundError:
        reason = f"no such {kind}; correct its name, or log in for a private one (hf auth login)"
    except RevisionNotFoundError:
        reason = f"the {kind} has no such revision; take a commit of its history on the hub"
    except (HfHubHTTPError, LocalEntryNotFoundError, HTTPError, OSError, ValueError) as error:
        response = getattr(error, "response", None)
        if getattr(response, "status_code", None) in (401, 403):
            raise UserError(
                f"{where} cannot be fetched: the hub refuses access; log in with a token that may "
                "read it (hf auth login)"
            ) from None
        if problem := find_write_problem(error):
            raise UserError(
                f"{where} cannot be fetched: cannot write to {HF_HUB_CACHE}: {problem}; make room, "
                "or set HF_HOME to another folder"
            ) from None
        cause = " ".join(str(error).split())[:200]
        reason = (
            f"{type(error).__name__}: {cause}; check the name, the revision and the network, "
            "or use source: path"
        )
    raise UserError(f"{where} cannot be fetched: {reason}")


def fetch_files(
    repo: str, revision: str, pattern: str, where: str, kind: str = "model"
) -> dict[str, Path]:
    """Download the files of `repo` that match `pattern`: {name in the repository: local path}.

    As on the hub, * also matches across folders. For the other arguments see `fetch_snapshot`.

    Raises:
        UserError: as `fetch_snapshot`, or no file matches.
    """
    from huggingface_hub.utils import filter_repo_objects

    folder = fetch_snapshot(repo, revision, [pattern], where, kind)
    cached = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    if matching := list(filter_repo_objects(cached, allow_patterns=pattern)):
        return {name: folder / name for name in matching}
    names = list_cached_files(repo, revision, kind)
    if names is None:  # never listed: a copy from elsewhere, and no network
        raise UserError(
            f"{where}: no file matches {pattern!r} in the cached copy, which has "
            f"{_listed(cached)}; connect to the network, or correct the name"
        )
    raise UserError(f"{where}: no file matches {pattern!r}; there is {_listed(names)}")


def list_cached_files(repo: str, revision: str, kind: str = "model") -> list[str] | None:
    """The repository's files as of the last `fetch_snapshot`; None if there was none."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        tree = get_cached_repo_tree(repo, repo_type=kind, revision=revision)
    except CachedRepoTreeNotFoundError:
        return None
    return sorted(file.path for file in tree)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "nothing") + more
