"""Pack one model's tidy scores, figures, claims, config and manifest into one archive."""

import json
from pathlib import Path

import yaml

from llm_figures.core.atomic_files import whole_file
from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes
from llm_figures.core.job import job, log
from llm_figures.core.result_folders import portable
from llm_figures.models.model_info import read_model_info
from llm_figures.provenance.bundle import CONFIG, pack
from llm_figures.provenance.verification import read_listed_files


def main(
    model_info: str, manifest: str, files: list[str], output: str, config: dict, libraries: dict
) -> None:
    folder = Path(manifest).parent
    listed = read_listed_files(Path(manifest))
    names = [Path(file).relative_to(folder).as_posix() for file in files]
    for name in names:
        if name in listed and sha256(folder / name) != listed[name]["sha256"]:
            raise UserError(
                f"{folder / name} differs from {manifest}; write the manifest again with: "
                "snakemake bundle --forcerun write_manifest"
            )
    described = read_model_info(model_info)
    written = portable(json.loads(Path(manifest).read_text(encoding="utf-8")))
    texts = {
        "model.json": _json(
            portable({key: value for key, value in described.items() if key != "folder"})
        ),
        "manifest.json": _json(written),
        CONFIG: yaml.safe_dump(portable(config), allow_unicode=True, sort_keys=False),
    }
    content = {name: (folder / name).read_bytes() for name in names}
    content |= {name: text.encode() for name, text in texts.items()}
    with whole_file(output) as partial:
        pack(
            partial,
            content,
            model=described["name"],
            project=written["project"],
            drawn_with=libraries,
            left_out=[name for name in listed if name not in content],
        )
    size = Path(output).stat().st_size
    log.info("%d files, %s: %s", len(content), format_bytes(size), output)


def _json(value: dict) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.manifest,
            list(snakemake.input.files),
            snakemake.output.bundle,
            snakemake.params.config,
            snakemake.params.libraries,
        )
