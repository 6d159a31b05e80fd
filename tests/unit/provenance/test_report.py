"""The report as a file: what stands in it, that it needs no other, and where its cells lie."""

import base64
import gzip
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import build_report
import drawn_figures
import report_files
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.modules.figure import find_limits
from llm_figures.plotting import drawing, saving
from llm_figures.probe import figure as probe_figure
from llm_figures.provenance import report
from llm_figures.provenance.manifest_facts import describe_provenance
from llm_figures.workflow.figures import FIGURE_TABLE

FIGURES = ["mean_qkv", "mean_qkv_tokens", "scale_qkv", "probe_auc", "module_map"]


class Page(HTMLParser):
    """The elements of a page in order, as [tag, attributes, text up to the next tag]."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        self.open = True

    def handle_endtag(self, tag):
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.elements[-1][2] += data

    def of(self, tag, **wanted):
        return [
            (attributes, text.strip())
            for name, attributes, text in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def content(self, uri):
        assert uri.startswith("data:")
        return base64.b64decode(uri.split(";base64,", 1)[1], validate=True)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, root):
    return report_files.make(tmp_path_factory.mktemp("results"), root)


@pytest.fixture(scope="module")
def text(arguments):
    build_report.main(**arguments)
    return Path(arguments["report"]).read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def built(arguments, tmp_path, **changes):
    """The text of a page with other arguments."""
    build_report.main(**{**arguments, "report": str(tmp_path / "report.html"), **changes})
    return (tmp_path / "report.html").read_text()


def test_nothing_is_fetched_from_anywhere(page, text):
    found = 0
    for _, attributes, _ in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            if value := attributes.get(name):
                assert value.startswith(("data:", "#")), value[:80]
                found += 1
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    assert found > 40
    without_data = re.sub(r"data:[^\"]*", "", text)
    assert not re.search(r"https?://|file:|@import|url\(", without_data)
    (policy, _), *_ = page.of("meta", **{"http-equiv": "Content-Security-Policy"})
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        (_, attributes, content), *_ = [
            element for element in page.elements if element[0] == tag and not element[1]
        ]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy["content"]
    assert "default-src 'none'" in policy["content"]


def test_every_anchor_leads_somewhere(page):
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes, _ in page.of("a"):
        if attributes["href"].startswith("#"):
            assert attributes["href"][1:] in ids


def test_every_figure_is_there_with_its_claims_and_caption(page, text, arguments):
    folder = Path(arguments["report"]).parent
    sections = [attributes["id"] for attributes, _ in page.of("section")]
    assert sections == [*FIGURES, "choices", "provenance"]
    overview, images = page.of("img")[:5], page.of("img")[5:]
    shown = [*FIGURES[:4], "probe_curves", "module_map", "choices"]
    assert [page.content(attributes["src"]) for attributes, _ in images] == [
        (folder / f"{name}.png").read_bytes() for name in shown
    ]
    for (attributes, _), name in zip(overview, FIGURES, strict=True):
        assert attributes["alt"] == ""  # the link's text is beside it
        with (
            Image.open(io.BytesIO(page.content(attributes["src"]))) as small,
            Image.open(folder / f"{name}.png") as figure,
        ):
            assert max(small.size) == min(report.THUMBNAIL, max(figure.size))
            assert small.width / small.height == pytest.approx(figure.width / figure.height, 0.01)
    for (attributes, _), name in zip(images, shown, strict=True):
        caption = (folder / f"{name}.caption.txt").read_text()
        assert len(attributes["alt"]) > 20
        assert caption.startswith(attributes["alt"])
        assert captions_of(text)[name] == " ".join(caption.split())
    rows = [attributes for attributes, _ in page.of("tr") if "data-verdict" in attributes]
    assert [row["data-verdict"] for row in rows] == [*report.ORDER] * 5
    assert (
        "this model's: 5 not reproduced, 5 not applicable, 5 reproduced, 5 decided by construction."
    ) in text
    # of each figure's two one has references, which 40% satisfy
    assert "Of 5 that could have failed, random or permuted data satisfy 2.0 on average." in text
    assert text.count(">random data 0.4, random weights 0.3<") == 3  # attention
    assert text.count(">random data 0.4<") == 2
    assert text.count("true of 40% of 125 references") == 5
    assert text.count("true of 99% of 125 references") == 5
    assert "<title>tiny: figures and claims</title>" in text
    assert '<html lang="en">' in text


def captions_of(text):
    """{figure: its caption, folded part and all}"""
    found = {}
    for part in text.split('data-figure="')[1:]:
        caption = re.search(r"<figcaption>(.*?)</figcaption>", part, re.DOTALL)[1]
        caption = re.sub(r"<summary>.*?</summary>|<[^>]*>", " ", caption)
        found[part.partition('"')[0]] = " ".join(html.unescape(caption).split())
    return found


def test_a_caption_without_an_early_end_is_cut_and_there_in_full(arguments, tmp_path):
    long = f"{'many words ' * 100}end."
    own = [path for path in arguments["figures"] if "scale_qkv.caption" not in path]
    (tmp_path / "scale_qkv.caption.txt").write_text(long)
    own.append(str(tmp_path / "scale_qkv.caption.txt"))
    caption = captions_of(built(arguments, tmp_path, figures=own))["scale_qkv"]
    lead, _, whole = caption.partition(" …")
    assert whole.strip() == long
    assert len(lead) <= report.LONGEST_LEAD
    assert long.startswith(lead)


def test_the_overview_says_what_the_figures_show(text):
    cards = html.unescape(re.search(r'<ul class="cards">.*?</ul>', text, re.DOTALL)[0])
    sentences = re.findall(r"</a>\n<p>(.*?)</p>", cards)
    assert len(sentences) == 5
    cells = report_files.cells("mean_qkv", {})
    first = cells.query("key_position == 0 and query_position > 0 and component != 'clean'")
    query, key, value = first.groupby("component", sort=False)["weight"].mean()
    assert sentences[0] == (
        f"Later tokens give the first one {query:#.3g} of their attention when Query is replaced "
        f"by its mean over the head dimension, {key:#.3g} when Key is and {value:#.3g} when Value "
        f"is (layer {cells['layer'].iloc[0]})."
    )
    assert "Query is multiplied by ε = 1e-10" in sentences[2]
    scores = report_files.module_scores().set_index(["projection", "layer"])["value"]
    projection, layer = scores.idxmax()
    assert sentences[4].endswith(
        f"to {scores.max():.4f}, highest in {projection} of layer {layer}."
    )


def test_downloads_are_the_files(page, arguments):
    folder = Path(arguments["report"]).parent
    links = {
        attributes["download"]: attributes
        for attributes, _ in page.of("a")
        if "download" in attributes
    }
    for name in FIGURES:
        for kind in ("pdf", "svg", "parquet"):
            content = page.content(links[f"tiny_{name}.{kind}"]["href"])
            assert content == (folder / f"{name}.{kind}").read_bytes()
        png = links[f"tiny_{name}.png"]
        assert png["href"] == f"#{png['data-image']}" == f"#{name}-image"
        csv = pd.read_csv(io.BytesIO(page.content(links[f"tiny_{name}.csv"]["href"])))
        frame = pd.read_parquet(folder / f"{name}.parquet")
        numbers = frame.select_dtypes("number").columns
        np.testing.assert_allclose(csv[numbers], frame[numbers], rtol=1e-6)


def test_large_data_are_gzipped_or_named(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PLAIN_CSV", 100)
    page = Page(built(arguments, tmp_path))
    (link, _), *_ = page.of("a", download="tiny_module_map.csv.gz")
    csv = gzip.decompress(page.content(link["href"]))
    assert csv.startswith(b"layer,projection,metric,value\n0,attn. q,")
    monkeypatch.setattr(report, "MOST_DATA", 100)
    text = built(arguments, tmp_path)
    assert "parquet;base64" not in text
    assert "text/csv" not in text
    assert "application/gzip" not in text
    assert arguments["scores"]["probe_auc"] in text


def test_statements_are_text_whatever_they_hold(page, text):
    assert "<script>alert" not in text
    statements = [text for _, text in page.of("p", **{"class": "statement"})]
    assert statements.count(report_files.HOSTILE) == 5


def test_notes_of_panels_cannot_end_their_script(arguments, tmp_path):
    own = [str(tmp_path / Path(path).name) for path in arguments["figures"]]
    for old, new in zip(arguments["figures"], own, strict=True):
        Path(new).write_bytes(Path(old).read_bytes())
    file = tmp_path / "module_map.panels.json"
    notes = json.loads(file.read_text())
    notes["panels"][0]["title"] = "</script><b>"
    file.write_text(json.dumps(notes))
    page = Page(built(arguments, tmp_path, figures=own))
    ((_, content),) = page.of("script", id="module_map-panels")
    assert json.loads(content)["panels"][0]["title"] == "</script><b>"
    assert not page.of("b")


def test_what_is_missing_leaves_its_part_out(arguments, tmp_path):
    without = {}
    for path in arguments["figures"]:
        if "panels" in path:
            without[path] = tmp_path / Path(path).name
            without[path].write_text('{"values": true, "panels": []}')
    figures = [str(without.get(path, path)) for path in arguments["figures"]]
    claims = pd.read_parquet(*arguments["claims"]).query("figure != 'scale_qkv'")
    write_frame(claims, tmp_path / "claims.parquet")
    (tmp_path / "manifest.json").write_text("{}")
    text = built(
        arguments,
        tmp_path,
        choices=None,
        figures=figures,
        claims=[str(tmp_path / "claims.parquet")],
        manifest=str(tmp_path / "manifest.json"),
    )
    page = Page(text)
    assert [attributes["id"] for attributes, _ in page.of("section")] == [*FIGURES, "provenance"]
    assert "choices" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", text, flags=re.S)
    assert not page.of("script", type="application/json")
    assert text.count("There is no claim about this figure.") == 1
    for part in ("Config</summary>", "packages</summary>", "files</summary>", "Peak memory"):
        assert part not in text


def test_a_claim_without_a_section_is_refused(arguments, tmp_path):
    claims = pd.read_parquet(*arguments["claims"])
    claims.loc[0, "figure"] = "other"
    write_frame(claims, tmp_path / "claims.parquet")
    with pytest.raises(UserError, match="'other', which the report does not show"):
        built(arguments, tmp_path, claims=[str(tmp_path / "claims.parquet")])


def test_a_damaged_manifest_is_named(arguments, tmp_path):
    for content in ("{", "[]"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"manifest\.json is not .*JSON"):
            built(arguments, tmp_path, manifest=str(tmp_path / "manifest.json"))


def test_a_claim_is_written_with_its_spread_and_threshold():
    first, second, third = report.tabulate_claims(report_files.claims().head(3))
    assert (first["value"], first["range"], first["expected"]) == ("0.800", "0.750–0.900", "≥ 0.5")
    assert first["held"] == "held in 2 of 3 and 7 of 9 heads"
    assert (second["range"], second["expected"]) == ("−0.0100 to 0.0300", "0.1 to 0.25")
    assert second["held"] is None
    assert (third["value"], third["value_key"], third["expected"]) == ("", None, "< 0.001")
    assert third["reason"] == "the model has a single layer"


def test_a_claim_about_its_whole_interval_is_marked(arguments, tmp_path):
    claims = pd.read_parquet(*arguments["claims"])
    assert "both ends of the interval" not in built(arguments, tmp_path)
    tests = {"first": '{"statistic": "mean"}', "second": '{"certain": true}'}
    claims["test"] = claims["claim"].map(tests)
    write_frame(claims, tmp_path / "claims.parquet")
    text = built(arguments, tmp_path, claims=[str(tmp_path / "claims.parquet")])
    expected = (
        '<span class="number">0.1 to 0.25</span><p class="note">both ends of the interval</p>'
    )
    assert text.count(expected) == text.count("both ends of the interval") == 5


def test_lines_of_descriptions_are_explained_where_a_claim_cites_one(arguments, tmp_path):
    assert "docs/descriptions.md" not in built(arguments, tmp_path)
    claims = pd.read_parquet(*arguments["claims"])
    claims.loc[0, "source"] = "mean_qkv a, line 22"
    write_frame(claims, tmp_path / "claims.parquet")
    text = built(arguments, tmp_path, claims=[str(tmp_path / "claims.parquet")])
    assert text.count("docs/descriptions.md") == 1


def test_a_report_without_any_claim_has_its_figures(arguments, tmp_path):
    write_frame(report_files.claims().head(0), tmp_path / "claims.parquet")
    claims = [str(tmp_path / "claims.parquet")]
    text = built(arguments, tmp_path, claims=claims, choices=None)
    page = Page(text)
    assert [attributes["id"] for attributes, _ in page.of("section")] == [*FIGURES, "provenance"]
    assert text.count("There is no claim about this figure.") == len(FIGURES)
    assert "published claims" not in text
    assert not page.of("table", **{"class": "claims sortable"})


def test_a_further_figure_has_a_section_with_its_title(arguments, tmp_path):
    """Drawn by a target of its own: the title is that of its source."""
    name, title = "probe_presets", FIGURE_TABLE["probe_presets"].title
    figures = [
        str(tmp_path / Path(path).name.replace("probe_curves", name))
        for path in arguments["figures"]
        if "probe_curves" in Path(path).name
    ]
    for path in figures:
        own = Path(arguments["report"]).parent / Path(path).name.replace(name, "probe_curves")
        Path(path).write_bytes(own.read_bytes())
    text = built(
        arguments,
        tmp_path,
        figures=[*arguments["figures"], *figures],
        scores={**arguments["scores"], name: arguments["scores"]["probe_auc"]},
        shown={**arguments["shown"], name: [name]},
        options={**arguments["options"], name: {"title": title}},
    )
    page = Page(text)
    sections = [attributes["id"] for attributes, _ in page.of("section")]
    assert sections == [*FIGURES, name, "choices", "provenance"]
    assert title in [text for _, text in page.of("h2")]


def test_every_figure_with_a_section_of_its_own_has_a_title():
    further = [
        name
        for name, source in FIGURE_TABLE.items()
        if not source.by_default and source.beside is None and name != "choices"
    ]
    assert "probe_presets" in further
    assert [name for name in further if not FIGURE_TABLE[name].title] == []


def test_without_a_choice_the_controls_are_those_of_the_highest_cell():
    found = report.tabulate_controls(report_files.probe_scores(), "auc", report_files.TOKENS)
    assert (found["cells"], found["nested"], found["metric"]) == ("layer 2, -1", False, "AUC")
    probe, *controls = found["rows"]
    assert (probe["mean"], probe["interval"], probe["gain"]) == ("0.877", "[0.777, 0.977]", None)
    assert {row["gain"] for row in controls} == {"0.200"}
    assert [row["name"] for row in controls if row["explains"]] == ["group alone"]
    assert "labels shuffled within group" in [row["name"] for row in controls]
    part = report_files.probe_scores().assign(within_group=0.425)
    names = [row["name"] for row in report.tabulate_controls(part, "auc", ["-1"])["rows"]]
    assert "labels shuffled within group (42% of them)" in names
    other = report.tabulate_controls(report_files.probe_scores(), "auc", ["last_q"])
    assert other["cells"].endswith(", last_q")
    empty = report_files.probe_scores().assign(mean=np.nan)
    assert report.tabulate_controls(empty, "auc", report_files.TOKENS) is None


def test_combinations_stand_best_first():
    rows = report.tabulate_combinations(report_files.choices())
    assert [(row["reproduced"], row["applicable"]) for row in rows] == [(3, 3), (2, 4), (0, 3)]
    assert [row["missed"] for row in rows] == [
        [],
        ["claim_1", "claim_3"],
        ["claim_0", "claim_1", "claim_2"],
    ]
    assert [(row["over"], row["layer"], row["head"]) for row in rows] == [
        (None, "1 (auto)", "mean"),
        ("features", "1 (auto)", "mean"),
        ("tokens", "0", "1 (auto)"),
    ]


def test_the_manifest_is_read_as_far_as_it_goes():
    found = describe_provenance(report_files.MANIFEST)
    assert dict(found["facts"]) == {
        "Model": "tiny",
        "Revision": "abc",
        "Data set": "mine.csv",
        "Run on": "device cpu, dtype float32",
        "Written with": "3.11.7 Linux x86_64",
        "Code": "llm-figures 0.1.0 (commit 0123456789ab, with uncommitted changes)",
    }
    assert found["hashes"] == [("model.safetensors", "ab" * 32)]
    assert found["packages"] == [("numpy", "2.1"), ("torch", "2.0")]
    assert [(stage["time"], stage["memory"]) for stage in found["stages"]] == [
        ("1 min 15 s", "1.9 GB"),
        ("0.4 s", "40 MB"),
    ]
    assert found["total"] == "1 min 16 s"
    other = {"jobs": 1, "ran_on": [{**report_files.RUN_ON, "device": "cuda", "files": []}]}
    mixed = {**report_files.MANIFEST["stages"], "measure_modules": other}
    assert [text for name, text in describe_provenance({"stages": mixed})["facts"]] == [
        "device cpu, dtype float32 (generate_answers)",
        "device cuda, dtype float32 (measure_modules)",
    ]
    nothing = describe_provenance({})
    assert not any(nothing.values())


# --- where the cells lie in the images


def limits_of(figure, notes, options):
    if figure != "module_map":
        return options[figure]["limits"]
    values = np.array(notes["panels"][0]["values"], dtype=float)
    return find_limits(values, options[figure]["limits"])


@pytest.mark.parametrize("figure", ["mean_qkv", "scale_qkv", "probe_auc", "module_map"])
def test_a_noted_cell_has_the_colour_of_its_value(figure, arguments):
    options = arguments["options"]
    folder = Path(arguments["report"]).parent
    notes = json.loads((folder / f"{figure}.panels.json").read_text())
    with Image.open(folder / f"{figure}.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    cmap = drawing.find_colour_map(options[figure]["palette"])
    norm = mpl.colors.Normalize(*limits_of(figure, notes, options))
    seen = set()
    for panel in notes["panels"]:
        left, top, right, bottom = panel["box"]
        highest = max(value for values in panel["values"] for value in values if value is not None)
        for row, values in enumerate(panel["values"]):
            for column, value in enumerate(values):
                expected = cmap(np.nan if value is None else norm(value))
                # its middle, but for the dot of the best cell, and two pixels or so inside two of
                # its corners
                marked = figure == "probe_auc" and value == highest
                for inside in (0.12, 0.88) if marked else (0.12, 0.5, 0.88):
                    x = left + (column + inside) / len(panel["columns"]) * (right - left)
                    y = top + (row + inside) / len(panel["rows"]) * (bottom - top)
                    pixel = pixels[int(y * height), int(x * width)]
                    np.testing.assert_allclose(pixel, 255 * np.array(expected[:3]), atol=4)
                seen.add(tuple(pixel))
        # just outside its edges there is paper
        row, column = int(top * height), int(left * width)
        assert (np.abs(pixels[row - 4, column + 4] - 255) < 30).all()
        assert (np.abs(pixels[row + 4, column - 4] - 255) < 30).all()
    assert len(seen) > 10


def test_panels_name_their_cells_as_the_image_shows_them(arguments):
    folder = Path(arguments["report"]).parent
    notes = {
        name: json.loads((folder / f"{name}.panels.json").read_text())["panels"] for name in FIGURES
    }
    (probe,) = notes["probe_auc"]
    assert (probe["row_axis"], probe["column_axis"]) == ("layer", "token")
    assert (probe["rows"], probe["columns"]) == (list("01234"), report_files.TOKENS)
    assert probe["values"][2][2] == 0.8765  # four digits
    assert probe["values"][0][0] is None
    (modules,) = notes["module_map"]
    assert modules["rows"] == list("543210")  # layer 0 at the bottom
    scores = report_files.module_scores().set_index(["layer", "projection"])["value"]
    assert modules["values"][0][1] == pytest.approx(scores[5, "attn. k"], rel=1e-3)
    titles = [panel["title"] for panel in notes["mean_qkv"]]
    assert titles[:2] == ["Taking the Mean of Query (Input 1)", "Taking the Mean of Key (Input 1)"]
    assert len(titles) == 9
    lefts, tops = ([panel["box"][side] for panel in notes["mean_qkv"]] for side in (0, 1))
    assert lefts[0] < lefts[1] < lefts[2]
    assert lefts[:3] == lefts[3:6]
    assert tops[0] < tops[3] < tops[6]


def test_very_large_maps_are_noted_without_their_values(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "MOST_CELLS", 10)
    with drawing.drawing_style(report_files.STYLE):
        fig = build_probe(arguments)
        saving.save(fig, [tmp_path / "probe_auc.png"], tmp_path / "probe_auc.panels.json")
    notes = json.loads((tmp_path / "probe_auc.panels.json").read_text())
    assert notes["values"] is False
    assert notes["panels"][0]["values"] is None
    assert len(notes["panels"][0]["rows"]) == 5
    figures = [path for path in arguments["figures"] if "probe_auc.panels" not in path]
    text = built(arguments, tmp_path, figures=[*figures, str(tmp_path / "probe_auc.panels.json")])
    assert text.count("too many cells for this page to hold their values") == 1


def build_probe(arguments):
    options = probe_figure.OPTIONS.model_validate(arguments["options"]["probe_auc"])
    return probe_figure.draw(report_files.probe_scores(), options)


def test_the_controls_are_those_where_the_cell_is_chosen():
    scores = drawn_figures.with_nested(drawn_figures.probe_scores(4, ["last_q", "-1"]))
    found = report.tabulate_controls(scores, "auc", ["last_q", "-1"])
    assert found["nested"]
    assert found["cells"] == "layer 2, last_q (4); layer 1, -1 (1)"
    assert found["rows"][0]["mean"] == "0.700"
    highest = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    place = highest.loc[highest["mean"].idxmax()]
    assert found["highest"].startswith(f"layer {place['layer']}, {place['token']}: ")
