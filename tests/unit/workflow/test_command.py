"""Config files of the command line, checked before Snakemake reads them."""

import pytest

from llm_figures.core.errors import UserError
from llm_figures.workflow import command


@pytest.fixture
def problem(tmp_path, monkeypatch):
    """problem(*arguments): what is wrong with them beside a mine.yaml, or None."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("model: mine\n")

    def find(*arguments):
        try:
            command.check_arguments(arguments)
        except UserError as error:
            return str(error)
        return None

    return find


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"model: mine\n\tdevice: cpu\n", "line 2, column 1: a tab; indent with spaces"),
        (b"dtype: auto\nmodel: \"mine\ndevice: cpu\n",
         "line 2, column 8: a quoted scalar is not closed"),
        (b"model: [a, b\ndevice: cpu\n", "line 2, column 7: "),
        (b"inputs: [a,\n  b\n", "line 1, column 9: a flow sequence is not closed"),
        (b"model: mine: yours\n", "line 1, column 12: mapping values are not allowed here"),
        (b"inputs:\n - a\nb\n", "line 3, column 1: could not find expected ':'"),
        (b"\xff", "not a text in UTF-8; save it as such"),
        (b"- a\n- b\n", "holds no keys; write lines of the form key: value"),
        (b"a text", "holds no keys; "),
        (b"model: \x00", "special characters are not allowed"),
        (b"[" * 5000, "cannot be read ("),
    ],
    ids=repr,
)  # fmt: skip
def test_a_damaged_config_file_is_named_with_the_line(problem, tmp_path, content, line):
    (tmp_path / "bad.yaml").write_bytes(content)
    found = problem("figures", "--configfile", "mine.yaml", "bad.yaml", "--cores", "1")
    assert found.startswith("bad.yaml: ")
    assert "\n" not in found
    assert line in found


@pytest.mark.parametrize(
    "content", [b"", b"model: mine\n", b'{\n\t"model": "mine"\n}\n', "größe: 1".encode()], ids=repr
)
def test_a_config_file_that_snakemake_reads_is_none_of_them(problem, tmp_path, content):
    (tmp_path / "good.yaml").write_bytes(content)
    assert problem("figures", "--configfile=good.yaml", "-n") is None
    assert problem("--configfiles", "good.yaml", "mine.yaml", "--", "figures") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--configfile", "gone.yaml"], "--configfile: gone.yaml: no such file in {folder}; corr"),
        (["--configfile", "in/gone"], "--configfile: in/gone: no such file in {folder}; correct"),
        (["--configfile", "mine.yaml", "figures"],
         "--configfile: figures: no such file in {folder}; a target comes before the options: "
         "llm-figures figures --configfile mine.yaml"),
        (["--config", "model=a", "figures"],
         "--config: 'figures' is not KEY=VALUE; a target comes before the options: "),
        (["figures", "--configfile", "mine.yaml", "--config", "model=a"], None),
        (["figures", "-C", "inputs=[a, b]", "-n"], None),
        (["--help"], None),
        ([], None),
    ],
    ids=str,
)  # fmt: skip
def test_a_target_that_was_taken_for_a_file_is_told(problem, tmp_path, arguments, said):
    found = problem(*arguments)
    assert found is None if said is None else found.startswith(said.format(folder=tmp_path))


def test_snakemake_runs_once_all_is_well(problem, monkeypatch):
    import snakemake.cli

    ran = []
    monkeypatch.setattr(snakemake.cli, "main", ran.append)
    command.main(["figures", "--configfile", "mine.yaml"])
    assert ran == [["figures", "--configfile", "mine.yaml"]]
    with pytest.raises(SystemExit, match=r"^error: --configfile: gone\.yaml: no such file in "):
        command.main(["figures", "--configfile", "gone.yaml"])
    assert len(ran) == 1
