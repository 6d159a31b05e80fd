"""Pack a model's results, and read them: one archive of all that its figures are drawn from.

It is a zip, small enough to go with a paper, of the tidy scores, figures, claims, manifest and
config under their names in results/{model}/, and of bundle.json, which lists them. It holds no
tensors, no weights and no paths of the machine. The Snakefile imports this module, so it imports
nothing heavy.
"""

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from llm_figures.core.errors import UserError
from llm_figures.core.result_folders import at_home
from llm_figures.core.text_checks import find_path_problem, show

# Increased when a reader of the previous format would misread this one.
FORMAT = 2
CONTENTS = "bundle.json"
CONFIG = "config.yaml"


@dataclass(frozen=True)
class Bundle:
    """An archive that was checked as a whole.

    folder: its results go to results/{folder}; the name ends in .bundle, unlike that of a model.
    sha256: of the archive. files: {name: {bytes, sha256}}. config: the config that it was made
    with. drawn_with: {library: version} of its figures.
    """

    path: str
    folder: str
    model: str
    sha256: str
    files: Mapping[str, Mapping]
    config: dict
    drawn_with: Mapping[str, str | None]

    @property
    def figures(self) -> list[str]:
        """Names of its files in figures/, without the folder."""
        return [PurePosixPath(name).name for name in self.files if name.startswith("figures/")]

    @property
    def others(self) -> list[str]:
        """Names of all its other files."""
        return [name for name in self.files if not name.startswith("figures/")]


def pack(
    path: Path,
    files: Mapping[str, bytes],
    *,
    model: str,
    project: Mapping,
    drawn_with: Mapping[str, str | None],
    left_out: Sequence[str],
) -> None:
    """Write an archive; the same content gives the same bytes.

    files: {name below results/{model}: content}. project: name, version and commit of the project
    that made them. left_out: files that the manifest lists and the archive does not hold.
    """
    contents = {
        "format": FORMAT,
        "model": model,
        "project": project,
        "drawn_with": drawn_with,
        "files": {name: _describe(files[name]) for name in sorted(files)},
        "left_out": sorted(left_out),
    }
    text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in (CONTENTS, *sorted(files)):
            member = zipfile.ZipInfo(name)  # with a fixed date, 1980-01-01
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, text.encode() if name == CONTENTS else files[name])


def read_bundle(path: str, needed: Iterable[str] = ()) -> Bundle:
    """Read an archive and check it as a whole: every member is listed and has its sha256.

    needed: names of files that the archive must hold, beside its config.

    Raises:
        UserError: one line, for a file that is no such archive, is damaged or unsafe, or has
            another format.
    """
    if problem := find_path_problem(path):
        raise UserError(f"config: bundle: {show(path)} {problem}")
    file = Path(at_home(path))
    contents, members = _members(file)
    missing = [name for name in (CONFIG, *needed) if name not in members]
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing in the archive")
    try:
        config = yaml.safe_load(members[CONFIG])
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {CONFIG}: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: {CONFIG}: is not a table of options")
    return Bundle(
        path=str(file),
        folder=name_folder(file),
        model=contents["model"],
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        files=contents["files"],
        config=config,
        drawn_with=contents["drawn_with"],
    )


def read_members(path: str | Path) -> dict[str, bytes]:
    """{name: content} of an archive, checked as by `read_bundle`."""
    return _members(Path(path))[1]


def name_folder(file: Path) -> str:
    """The folder of the results drawn from an archive: its file's name, ending in .bundle."""
    stem = file.name.removesuffix(".zip").removesuffix(".bundle")
    return re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-.") + ".bundle"


def compare_redraw(
    bundle: Bundle,
    drawn: Mapping[str, str],
    drawn_with: Mapping[str, str | None],
    changed: Sequence[str],
) -> tuple[dict, str]:
    """Compare figures drawn from an archive with those in it.

    drawn: {name of a file in figures/: its sha256}. drawn_with: {library: version} now. changed:
    keys of options that differ from the archive's.

    Returns the content of redraw.json, and one line for the log.
    """
    first = {name: bundle.files[f"figures/{name}"]["sha256"] for name in sorted(drawn)}
    different = [name for name in first if drawn[name] != first[name]]
    record = {
        "format": FORMAT,
        "bundle": {"file": Path(bundle.path).name, "sha256": bundle.sha256},
        "model": bundle.model,
        "drawn_with": dict(drawn_with),
        "bundle_drawn_with": dict(bundle.drawn_with),
        "changed_options": list(changed),
        "equal": [name for name in first if name not in different],
        "different": different,
    }
    archive = record["bundle"]["file"]
    if not different:
        return record, f"{len(first)} files equal those of {archive}, byte for byte"
    versions = [
        f"{library} {then or 'none'} then, {now or 'none'} now"
        for library in sorted({*drawn_with, *bundle.drawn_with})
        if (then := bundle.drawn_with.get(library)) != (now := drawn_with.get(library))
    ]
    why = []
    if changed:
        why.append(f"options changed: {', '.join(changed)}")
    if versions:
        why.append(f"drawn with {'; '.join(versions)}")
    reason = "; ".join(why) or "with the same options and versions of the libraries"
    return record, (
        f"{len(record['equal'])} of {len(first)} files equal those of {archive}, "
        f"{len(different)} differ ({reason}): {', '.join(different)}"
    )


def _describe(content: bytes) -> dict:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _members(file: Path) -> tuple[dict, dict[str, bytes]]:
    """The archive's bundle.json, and {name: content} of the other members.

    Raises:
        UserError: see `read_bundle`.
    """
    again = "get a fresh copy, or make it again with: snakemake bundle"
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            for name in names:
                if not _safe(name):
                    raise UserError(f"{file}: {name!r} would be unpacked outside its folder")
            if CONTENTS not in names:
                raise UserError(
                    f"{file}: has no {CONTENTS}; it is not an archive of snakemake bundle"
                )
            contents = _contents(file, archive.read(CONTENTS))
            listed = contents["files"]
            for name in sorted({*names, *listed} - {CONTENTS}):
                if names.count(name) != 1 or name not in listed:
                    what = "is missing" if name not in names else "is not listed, or occurs twice"
                    raise UserError(f"{file}: {name} {what}; {again}")
            members = {}
            for name, facts in listed.items():
                # size first, so that a member that would fill the memory is not read
                if archive.getinfo(name).file_size == facts["bytes"]:
                    members[name] = archive.read(name)
                if name not in members or _describe(members[name]) != facts:
                    raise UserError(f"{file}: {name} differs from {CONTENTS}; {again}")
    except FileNotFoundError:
        raise UserError(f"config: bundle: {file}: no such file") from None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{file} cannot be read as an archive ({reason}); {again}") from None
    except RuntimeError as error:  # a member with a password
        raise UserError(f"{file}: {' '.join(str(error).split())[:160]}") from None
    return contents, members


def _contents(file: Path, text: bytes) -> dict:
    """bundle.json, checked."""
    try:
        contents = json.loads(text)
    except ValueError:
        contents = None
    if not isinstance(contents, dict) or not isinstance(contents.get("format"), int):
        raise UserError(f"{file}: {CONTENTS} cannot be read; make the archive again")
    if contents["format"] != FORMAT:
        made = contents.get("project")
        by = f" (llm-figures {made.get('version')})" if isinstance(made, dict) else ""
        raise UserError(
            f"{file}: format {contents['format']}{by}; this version reads format {FORMAT}: use "
            "the version that made it"
        )
    files, model = contents.get("files"), contents.get("model")
    if (
        not isinstance(files, dict)
        or not all(
            isinstance(facts, dict)
            and facts.keys() == {"bytes", "sha256"}
            and isinstance(facts["bytes"], int)
            for facts in files.values()
        )
        or not isinstance(model, str)
        or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", model)
        or not isinstance(contents.get("drawn_with"), dict)
    ):
        raise UserError(f"{file}: {CONTENTS} cannot be read; make the archive again")
    return contents


def _safe(name: str) -> bool:
    """Whether a member's name stays below the folder it is unpacked to, on every system."""
    parts = name.split("/")
    return all(
        re.fullmatch(r"\w[\w.-]*", part, flags=re.ASCII) and part not in (".", "..")
        for part in parts
    )
