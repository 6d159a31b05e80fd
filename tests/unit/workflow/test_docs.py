"""The documents: their links lead somewhere, the README is short, pictures keep their colours."""

import re

import pytest

from llm_figures.questions.judging.rules import RULES

PAGES = ["README.md", "CHANGELOG.md", "docs/*.md", "config/README.md", "benchmarks/README.md"]
TRUE_COLOUR = (2, 6)  # PNG colour types RGB and RGBA; 3 is a palette of at most 256 colours


def pages(root):
    found = [page for pattern in PAGES for page in sorted(root.glob(pattern))]
    assert len(found) > len(PAGES)
    return found


def links(text):
    """Relative targets of Markdown links and of img tags, outside code blocks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    return [target for target in targets if not re.match(r"\w+:", target)]


def anchors(text):
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page):
    """Links of a page to a file that does not exist, or to a heading that its page lacks."""
    broken = []
    for target in links(page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (
            anchor and anchor not in anchors(file.read_text(encoding="utf-8"))
        ):
            broken.append(target)
    return broken


def test_links_lead_to_files_and_headings(root):
    broken = {page.relative_to(root).as_posix(): broken_links(page) for page in pages(root)}
    assert not {page: targets for page, targets in broken.items() if targets}


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        ("[a](other.md)", False),
        ("[a](other.md#two-words-here)", False),
        ("[a](https://example.org/none)", False),
        ("```\n[a](none.md)\n```", False),
        ("[a](none.md)", True),
        ("![a](none.png)", True),
        ('<img src="none.png">', True),
        ("[a](other.md#none)", True),
    ],
)
def test_a_broken_link_is_found(tmp_path, link, is_broken):
    (tmp_path / "other.md").write_text("# Other\n\n## Two words, here\n")
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{link}\n")
    assert bool(broken_links(page)) is is_broken


def test_the_readme_is_short_and_shows_the_five_figures(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert not re.search(r"\{[A-Z_]+\}", text), "a placeholder"
    shown = {target for target in links(text) if target.endswith(".png")}
    for figure in ("mean_qkv", "mean_qkv_tokens", "scale_qkv", "probe_auc", "module_map"):
        assert f"docs/figures/{figure}.png" in shown


def test_every_page_is_linked_from_the_readme(root):
    linked = {target.partition("#")[0] for target in links((root / "README.md").read_text())}
    assert {f"docs/{page.name}" for page in (root / "docs").glob("*.md")} <= linked


def test_pictures_are_true_colour_and_small(root):
    """A palette of few colours shows as bands in a colour bar."""
    for picture in sorted((root / "docs" / "figures").rglob("*.png")):
        data = picture.read_bytes()
        assert data[25] in TRUE_COLOUR, picture.name
        assert len(data) < 400_000, picture.name


def unclosed_fences(text):
    """Numbers of lines that begin a code block without an end, or with another one in it."""
    opened, unclosed = None, []
    for number, line in enumerate(text.splitlines(), start=1):
        if not (fence := re.match(r" *```(.*)", line)):
            continue
        if opened is None:
            opened = number
        elif fence[1].strip():
            unclosed.append(opened)
            opened = number
        else:
            opened = None
    return unclosed + [opened] * (opened is not None)


def test_every_code_block_ends(root):
    unclosed = {page.name: unclosed_fences(page.read_text("utf-8")) for page in pages(root)}
    assert not {page: lines for page, lines in unclosed.items() if lines}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("```yaml\na: 1\n```\ntext\n```\nb\n```\n", []),
        ("text\n```yaml\na: 1\n", [2]),
        ("```yaml\na: 1\n\n```yaml\nb: 1\n```\n", [1]),
        ("```\na\n```\n```\n", [4]),
        ("no block", []),
    ],
)
def test_a_code_block_without_an_end_is_found(text, lines):
    assert unclosed_fences(text) == lines


def test_every_rule_of_the_judges_is_explained(root):
    page = (root / "docs/questions.md").read_text(encoding="utf-8")
    assert [rule for rule in RULES if f"`{rule}`" not in page] == []
