"""Normalisation, extraction, sections, languages: what happens to a text on its way into the corpus."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.curation import extraction
from seedbed.curation.documents import Document
from seedbed.curation.language import detect_language
from seedbed.curation.normalize import normalize, repair_encoding
from seedbed.curation.sections import split_sections


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a\r\nb\rc\x85d\u2028e\x0cf", "a\nb\nc\nd\ne\nf"),
        ("a \t\nb\u3000", "a\nb"),
        ("\n\n  a\n\n\n \nb\n\n", "  a\n\nb"),
        ("e\u0301 \u212b", "é Å"),
        ("\ufeffa\x00b\x1b\xad\u200d", "ab\u200d"),
        ("a\xa0b", "a b"),
        ("a\ud800b", "a\ufffdb"),
        ("x\ty", "x\ty"),
    ],
)
def test_normalisation(text: str, normal: str) -> None:
    assert normalize(text) == normal


@given(st.text(st.one_of(st.characters(), st.sampled_from("\r\n\x85\u2028 \t\xa0\xade\u0301\ud800")), max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert "\r" not in once
    assert "\n\n\n" not in once
    once.encode()


def test_encodings_are_repaired_line_by_line() -> None:
    text = "The café’s “naïve” owner, Åse Größe"
    misread = text.encode().decode("latin-1")
    assert repair_encoding(f"{text}\n{misread}\nplain") == f"{text}\n{text}\nplain"
    for good in (text, "plain", "NÃO É A ÁREA, disse.", "日本語のテキスト"):
        assert repair_encoding(good) == good


def test_html_main_text_and_title() -> None:
    page = """<html><head><title>json.dumps — The Manual</title><script>var x = 1</script></head><body>
    <nav><a href=/>Home</a><a href=/next>Next</a></nav><main><h1>json.dumps<a class="headerlink" href="#x">¶</a></h1>
    <p>Serialize <code>obj</code> to a JSON formatted string, as every reader of this page hoped it would.</p>
    <img src="a.png" alt="A drawing of the sea"><pre>def f():
    return 1</pre></main><footer>All rights reserved</footer></body></html>"""
    title, text = extraction.html(page)
    assert title == "json.dumps"
    assert "Serialize obj to a JSON" in text
    assert "def f():\n    return 1" in text
    for noise in ("var x", "Next", "rights reserved", "¶", "drawing"):
        assert noise not in text
    assert extraction.html("<p>Bare words and no more.")[1].strip() == "Bare words and no more."


def test_markdown_keeps_words_and_code() -> None:
    source = """---
title: "Front"
---
# Head `code` #

Some **strong** and *soft* and _low_ words, `f(**kwargs)`, snake_case_name, 2 * 3 * 4, [a link](http://x.y/z_(1)),
![picture](a.png), <https://auto.link>, [`Class`][ref], List<int>, a\\*b.<br/>

<!-- gone
# not a heading -->

Second
------

```python
# a comment
x = **y**  <!-- stays -->
```

    indented *code*

> quoted *words*

| a | b |
|---|---|
| 1 | `c` |

[ref]: http://x.y
"""
    title, text = extraction.markdown(source)
    assert title == "Front"
    assert normalize(text) == normalize("""Head code

Some strong and soft and low words, f(**kwargs), snake_case_name, 2 * 3 * 4, a link,
picture, https://auto.link, Class, List<int>, a*b.

Second

# a comment
x = **y**  <!-- stays -->

    indented *code*

quoted words

| a | b |
| 1 | c |
""")


def test_rst_keeps_words_and_code() -> None:
    source = """.. _target:
.. a comment
   of two lines

=====
Title
=====

Use :func:`~json.dumps`, :class:`dict`, :ref:`the guide <guide>`, ``f(*args)`` and `a link <http://x>`_ *now*.

.. versionadded:: 3.2

.. note:: Take care
   of this.

.. image:: x.png
   :alt: gone

Example::

    x = *y*

.. code-block:: python
   :linenos:

   z = `1`

After
-----
"""
    title, text = extraction.rst(source)
    assert title == "Title"
    assert normalize(text) == normalize("""Title

Use dumps, dict, the guide, f(*args) and a link now.

Added in version 3.2.

Take care
   of this.

Example:

    x = *y*

   z = `1`

After
""")


@pytest.mark.parametrize(
    "pattern", ["<a ", "*a", "`", "[", "![", "<!--", "  ", "a\n", ":a", "<aaaa", "``", "_a ", "```\n"]
)
@pytest.mark.parametrize("reader", [extraction.markdown, extraction.rst, extraction.nesting, normalize])
def test_hostile_text_takes_linear_time(reader: Callable[[str], object], pattern: str) -> None:
    text = pattern * (300_000 // len(pattern))
    start = time.process_time()
    reader(text)
    assert time.process_time() - start < 3


@given(st.text("ab \n.", max_size=400), st.integers(20, 100))
def test_sections_hold_the_whole_text(text: str, limit: int) -> None:
    document = Document("x", normalize(text), "T", "x")
    sections = list(split_sections(document, limit))
    assert "".join("".join(section.text.split()) for section in sections) == "".join(text.split())
    assert all(len(section.text) <= limit for section in sections)
    if len(sections) > 1:
        assert [section.id for section in sections] == [f"x#part-{n}" for n in range(1, len(sections) + 1)]


def test_sections_begin_at_headings_and_are_called_after_them() -> None:
    paragraph = "A sentence of some length that ends.\n\n" * 8
    text = "".join(f"Chapter {n}\n\n{paragraph}" for n in range(6)).strip()
    sections = list(split_sections(Document("x", text, "Book", "x"), 400))
    assert [section.title for section in sections] == [f"Chapter {n}" for n in range(6)]
    untitled = list(split_sections(Document("x", paragraph * 4, "Book", "x"), 400))
    assert {section.title for section in untitled} == {"Book"}
    assert untitled[1].metadata == {"parent": "x", "part": 2, "parts": len(untitled)}


def test_language_is_right_or_empty(shared_data: Callable[[str], Path]) -> None:
    codes = {"eng": "en", "fra": "fr", "spa": "es", "ita": "it", "nld": "nl", "rus": "ru", "pol": "pl", "fin": "fi",
             "swe": "sv", "jpn": "ja", "tur": "tr", "arb": "ar", "kor": "ko", "heb": "he", "ces": "cs", "dan": "da",
             "hin": "hi", "bul": "bg", "lit": "lt",
             "hun": "hu", "vie": "vi", "tha": "th", "est": "et", "cat": "ca", "ind": "id", "ukr": "uk"}  # fmt: skip
    right = wrong = unsure = 0
    with zipfile.ZipFile(shared_data("text/udhr2.zip")) as archive:
        for name, code in codes.items():
            text = archive.read(f"udhr2/{name}.txt").decode()
            for start in range(500, len(text) - 300, 600):
                found = detect_language(normalize(text[start : start + 300]))
                right += found == code
                wrong += found not in ("", code)
                unsure += not found
    assert wrong / (right + wrong) <= 0.001
    assert unsure / (right + wrong + unsure) < 0.05
    assert detect_language("Too short to say.") == ""
    assert detect_language("1234 5678 " * 30) == ""
