"""Pages whose main text is known: real paragraphs in layouts written by hand to be hard, each with what surrounds text
on the web (menus, teasers, cookie notices, comments, footers) or within it (tables, code, nested lists, broken markup).
"""

from __future__ import annotations

import html
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+")
_RUN = 4  # words, as in the benchmark of article extraction by Zyte
_TOPICS = "World Politics Business Science Health Sport Culture Travel Weather Opinion Video Podcasts".split()
_TEASERS = (
    "Ten things you did not know about lakes", "Markets close higher after a quiet day", "Our guide to winter boots",
    "Quiz: how well do you know your capital?", "Live: the final score", "Subscribe and save half of the price",
    "What to watch this weekend", "The recipe that everybody shares", "Ferry timetable changes from Monday",
)  # fmt: skip
_COOKIES = "We value your privacy. We and our partners store cookies on your device. Accept all. Manage options."


@dataclass(frozen=True)
class GoldPage:
    """
    Attributes:
        text: what a person would keep.
    """

    layout: str
    page: str
    text: str


@dataclass(frozen=True)
class _Article:
    title: str
    paragraphs: Sequence[str]

    def body(self) -> str:
        return "\n".join(f"<p>{html.escape(one)}</p>" for one in self.paragraphs)

    def text(self, *more: str) -> str:
        return "\n\n".join([self.title, *self.paragraphs, *more])


def _menu(random_: random.Random, count: int = 8) -> str:
    chosen = random_.sample(_TOPICS, count)
    return "<ul>" + "".join(f'<li><a href="/{one.lower()}">{one}</a></li>' for one in chosen) + "</ul>"


def _teasers(random_: random.Random, count: int = 4) -> str:
    chosen = random_.sample(_TEASERS, count)
    return "".join(
        f'<div class="teaser"><h3><a href="/t{n}">{one}</a></h3><span>{n + 2} min read</span></div>'
        for n, one in enumerate(chosen)
    )


def _page(title: str, body: str, head: str = "") -> str:
    name = html.escape(title)
    return f'<!DOCTYPE html><html lang="en"><head><title>{name}</title>{head}</head><body>{body}</body></html>'


def _newspaper(article: _Article, dice: random.Random) -> GoldPage:
    body = f"""<header><div class="logo">The Daily Page</div><nav>{_menu(dice)}</nav></header>
    <div class="cookie-banner">{_COOKIES}</div>
    <main><article><h1>{html.escape(article.title)}</h1><div class="share"><a href="#">Share</a> <a href="#">Tweet</a>
    </div>
    {article.body()}</article><aside class="related"><h2>Related</h2>{_teasers(dice)}</aside></main>
    <section id="comments"><h2>3 Comments</h2><div class="comment"><b>pat72</b> I could not agree more with this.</div>
    <div class="comment"><b>lee</b> First! Also, where is the source for that claim?</div></section>
    <footer><p>© 2024 The Daily Page. All rights reserved.</p>{_menu(dice, 5)}</footer>"""
    return GoldPage("newspaper", _page(article.title, body), article.text())


def _blog(article: _Article, dice: random.Random) -> GoldPage:
    body = f"""<div id="page"><div id="masthead"><a href="/">My small blog</a> <span>Thoughts on everything</span></div>
    <div id="content"><div class="post"><h2 class="entry-title">{html.escape(article.title)}</h2>
    <div class="entry-content">{article.body()}</div>
    <p class="tags">Filed under: <a href="#">life</a>, <a href="#">notes</a></p></div></div>
    <div id="sidebar"><h3>Archives</h3><ul>{"".join(f"<li><a href='/a{n}'>Month {n}</a></li>" for n in range(12))}</ul>
    <h3>Blogroll</h3>{_menu(dice, 6)}</div><div id="footer">Proudly powered by software. Theme by somebody.</div>
    </div>"""
    return GoldPage("blog", _page(article.title, body), article.text())


def _manual(article: _Article, dice: random.Random) -> GoldPage:
    code = "def area(width, height):\n    # both in metres\n    return width * height\n\nprint(area(3, 4))"
    cells = [("width", "metres", "of the shorter side"), ("height", "metres", "of the longer side")]
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    half = len(article.paragraphs) // 2
    first, second = (_Article("", part).body() for part in (article.paragraphs[:half], article.paragraphs[half:]))
    body = f"""<div class="sidebar" role="navigation"><h3>Contents</h3>{_menu(dice, 10)}</div>
    <div class="document" role="main"><h1>{html.escape(article.title)}</h1>{first}
    <pre><code>{html.escape(code)}</code></pre>
    <table><thead><tr><th>Name</th><th>Unit</th><th>Meaning</th></tr></thead><tbody>{rows}</tbody></table>{second}</div>
    <div class="nav-footer" role="navigation"><a href="p">Previous</a> <a href="n">Next</a></div>
    <footer>Built with a generator, version 3.2. Edit on the hub.</footer>"""
    table = "Name Unit Meaning " + " ".join(" ".join(row) for row in cells)
    return GoldPage("manual", _page(article.title, body), article.text(code, table))


def _recipe(article: _Article, dice: random.Random) -> GoldPage:
    lists = """<ul><li>For the dough<ul><li>500 g of flour</li><li>a pinch of salt<ol><li>fine</li><li>or coarse</li>
    </ol>
    </li></ul></li><li>For the filling<ul><li>six apples, peeled and cut</li><li>two spoons of sugar</li></ul></li>
    </ul>"""
    body = f"""<nav class="top">{_menu(dice, 6)}</nav><div class="ad">Advertisement</div>
    <div class="container"><div class="row"><div class="col-8"><h1>{html.escape(article.title)}</h1>
    {_Article("", article.paragraphs[:2]).body()}<h2>What you need</h2>{lists}
    {_Article("", article.paragraphs[2:]).body()}</div><div class="col-4 widget"><h4>Newsletter</h4>
    <form><input type="email" value="your address"><button>Sign up</button></form>{_teasers(dice, 3)}</div></div></div>
    <div class="footer-links"><a href="#">Imprint</a> <a href="#">Terms</a> <a href="#">Contact</a></div>"""
    kept = (
        "What you need For the dough 500 g of flour a pinch of salt fine or coarse For the filling six apples, peeled "
    )
    kept += "and cut two spoons of sugar"
    paragraphs = [*article.paragraphs[:2], kept, *article.paragraphs[2:]]
    return GoldPage("recipe", _page(article.title, body), _Article(article.title, paragraphs).text())


def _old_tables(article: _Article, dice: random.Random) -> GoldPage:
    text = "<br><br>".join(html.escape(one) for one in article.paragraphs)
    links = "<br>".join(f'<a href="{one}.htm"><font size="2">{one}</font></a>' for one in dice.sample(_TOPICS, 7))
    body = f"""<table width="100%" border="0"><tr><td colspan="2" bgcolor="#cccccc">
    <font size="5">Welcome to my home page
    </font></td></tr><tr><td width="120" valign="top">{links}</td><td valign="top"><h3>{html.escape(article.title)}</h3>
    <font face="Times">{text}</font></td></tr><tr><td colspan="2" align="center"><font size="1">You are visitor number
    004217. Best viewed at 800 x 600.</font></td></tr></table>"""
    return GoldPage("old tables", _page(article.title, body), article.text())


def _broken(article: _Article, dice: random.Random) -> GoldPage:
    """Nothing is closed, tags cross, an attribute lacks its quote, and a script holds markup."""
    text = "\n<p>".join(f"<b><i>{html.escape(one)}</b></i>" for one in article.paragraphs)
    page = f"""<html><title>{html.escape(article.title)}<body><script>document.write("<p>Not text</p>")</script>
    <div class=menu><ul><li><a href='/>Home<li><a href="/b">About<li><a href="/c">Contact</ul></div>
    <div class="main"><h1>{html.escape(article.title)}<div>{text}
    <div class=foot><p>Copyright <a href=x>somebody</a> | <a href=y>privacy</a></span>"""
    page = page.replace("<title>" + html.escape(article.title), f"<title>{html.escape(article.title)}</title>")
    return GoldPage("broken", page.replace("href='/>", "href='/'>"), article.text())


def _forum(article: _Article, dice: random.Random) -> GoldPage:
    """Every post is text; who wrote it and when is not."""
    posts = "".join(
        f"""<div class="post"><div class="author"><a href="/u{n}">user{n}</a><br>Posts: {n * 31}<br>Joined: 2011</div>
        <div class="message"><p>{html.escape(one)}</p></div><div class="actions"><a href="#">Reply</a>
    <a href="#">Quote</a>
        <a href="#">Report</a></div></div>"""
        for n, one in enumerate(article.paragraphs, start=1)
    )
    body = f"""<div class="breadcrumb"><a href="/">Index</a> &gt; <a href="/f">Talk</a></div>
    <h1>{html.escape(article.title)}</h1>{posts}<div class="pagination"><a href="?p=1">1</a> <a href="?p=2">2</a></div>
    <div class="online">Users browsing this forum: none and 4 guests</div>"""
    return GoldPage("forum", _page(article.title, body), article.text())


def _divisions(article: _Article, dice: random.Random) -> GoldPage:
    """Paragraphs that are divisions with meaningless names, an advertisement between them, and text in scripts."""
    inner = [f'<div class="x{dice.randrange(999)}"><div>{html.escape(one)}</div></div>' for one in article.paragraphs]
    inner.insert(
        len(inner) // 2, '<div class="ad-slot"><span>Advertisement</span><a href="#">Buy two, pay for one</a></div>'
    )
    body = f"""<div class="k1"><div class="k2"><a href="/">Start</a><a href="/m">More</a><a href="/l">Log in</a></div>
    </div>
    <div class="k3"><div class="k4"><h1>{html.escape(article.title)}</h1><div class="k5">{"".join(inner)}</div></div>
    <div class="k6">{_teasers(dice, 5)}</div></div><div class="k7">Terms · Privacy · Cookie settings · © 2025</div>
    <noscript>Please enable JavaScript to view this page.</noscript><style>.k1 {{ color: red }}</style>"""
    head = '<script type="application/ld+json">{"@type": "NewsArticle", "headline": "x"}</script>'
    return GoldPage("divisions", _page(article.title, body, head), article.text())


LAYOUTS: tuple[Callable[[_Article, random.Random], GoldPage], ...] = (
    _newspaper, _blog, _manual, _recipe, _old_tables, _broken, _forum, _divisions,
)  # fmt: skip


def gold_pages(texts: Sequence[str], each: int) -> list[GoldPage]:
    """`each` pages of every layout, their paragraphs taken from `texts` in turn."""
    dice = random.Random(0)
    paragraphs = [
        one for text in texts for part in text.split("\n") if 120 <= len(one := " ".join(part.split())) <= 900
    ]
    dice.shuffle(paragraphs)
    pages, at = list[GoldPage](), 0
    for layout in LAYOUTS:
        for _ in range(each):
            count = dice.randrange(4, 10)
            chosen, at = paragraphs[at : at + count], at + count
            words = " ".join(chosen[0].split()[:6])
            pages.append(layout(_Article(f"Notes on {words}", chosen), dice))
    return pages


def f1(found: str, wanted: str) -> float:
    """Harmonic mean of the shares of runs of four words that are right and that are found."""
    ours, gold = (_runs(text) for text in (found, wanted))
    shared = sum((ours & gold).values())
    if not shared:
        return 0.0
    precision, recall = shared / sum(ours.values()), shared / sum(gold.values())
    return 2 * precision * recall / (precision + recall)


def _runs(text: str) -> Counter[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return Counter(tuple(words[at : at + _RUN]) for at in range(max(1, len(words) - _RUN + 1)))
