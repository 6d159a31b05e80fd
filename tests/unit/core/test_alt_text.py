from llm_figures.core.alt_text import LONGEST, make_alt_text


def test_alt_text_is_the_first_sentences():
    caption = (
        "AUC of a probe, layer 3 (mlp. up).\nThe best is 0.91 at layer 2. " + "Long " * 80 + "."
    )
    assert make_alt_text(caption) == (
        "AUC of a probe, layer 3 (mlp. up). The best is 0.91 at layer 2."
    )
    assert make_alt_text("x" * (LONGEST + 1)) == "x" * (LONGEST + 1)
