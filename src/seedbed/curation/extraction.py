"""Readable text from HTML, Markdown and reStructuredText, with a title: markup that hurts goes, code stays.

Headings become lines of their own between empty lines, which is how `sections` finds them again.
"""

from __future__ import annotations

import re

# The HTML parser's time grows with the square of the depth.
MAX_NESTING = 1_000
_MAX_TITLE = 200
_SHORT = 40
# Time for the rules within a line grows faster than its length.
_LONGEST_MARKED_LINE = 10_000

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*+)[^<>]*+>")
# Void elements, and those that the next of their kind closes.
_FLAT = frozenset(
    "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th thead tbody tfoot "
    "option optgroup html head body".split()
)


# The signs that documentation generators put behind headings for links to them.
_PERMALINKS = ["a.headerlink", "a.mark", "a.anchor", "a.hash-link", "a.permalink", "a.copiable-link"]


def nesting(page: str) -> int:
    """How deep a page's elements are nested, as far as its tags tell."""
    depth = deepest = 0
    for tag in _TAG.finditer(page):
        if page[tag.end() - 2] == "/" or tag[2].lower() in _FLAT:
            continue
        depth = max(0, depth + (-1 if tag[1] else 1))
        deepest = max(deepest, depth)
    return deepest


def html(page: str) -> tuple[str, str]:
    """(title, main text) of an HTML page by resiliparse, without its comments; all its text where none is found."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(page)
    text = extract_plain_text(tree, main_content=True, alt_texts=False, comments=False, skip_elements=_PERMALINKS)
    if len(text.strip()) < _SHORT:
        text = max(
            text, extract_plain_text(tree, main_content=False, alt_texts=False, skip_elements=_PERMALINKS), key=len
        )
    title = _line(tree.title)
    heading = tree.body.query_selector("h1") if tree.body else None
    name = _line(heading.text).rstrip("¶\uf0c1#§ ") if heading else ""
    # "json.dumps — Python documentation" is called "json.dumps" where the page itself does so.
    return (name if name and (not title or name in title) else title), text


def plain(text: str) -> tuple[str, str]:
    """(title, text): the title is the first line where it is short and stands alone."""
    first, _, rest = text.lstrip().partition("\n")
    alone = not rest or rest[:1] in "\r\n"
    return (_line(first) if alone and is_heading(first.strip()) else ""), text


def is_heading(line: str) -> bool:
    """Whether a line that stands alone reads as a heading: short, beginning like one, not ending like a sentence."""
    return 0 < len(line) <= 100 and line[-1] not in ".,;:!?…)\"'" and line[:1].isalnum() and any(map(str.isalpha, line))


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:_MAX_TITLE]


# Markdown (CommonMark and tables, by rules of thumb)

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FENCE = re.compile(r"^ {0,3}(?:[-*+] +|\d+[.)] +)? *(`{3,}|~{3,})(.*)$")
_ATX = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$")
_SETEXT = re.compile(r"^ {0,3}(=+|-{2,})[ \t]*$")
_TABLE_RULE = re.compile(r"^ {0,3}\|?[ \t]*:?-{2,}:?[ \t]*(\|[ \t]*:?-{2,}:?[ \t]*)*\|?[ \t]*$")
_RULE = re.compile(r"^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]\n]+\]:[ \t]+\S+.*$")
_QUOTE = re.compile(r"^ {0,3}(?:> ?)+")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_HTML_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|center|cite|code|dd|del|details|div|dl|dt|em|figure|figcaption|font|h[1-6]|hr|i|img|"
    r"ins|kbd|li|mark|ol|p|picture|pre|q|s|samp|small|source|span|strong|sub|summary|sup|table|tbody|td|th|thead|tr|tt|u|"
    r"ul|var|video)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_IMAGE = re.compile(r"!\[([^\]\n]*)\](?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)|\[[^\]\n]*\])")
_LINK = re.compile(r"\[([^\[\]\n]+)\](?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)|\[[^\]\n]*\])")
_AUTOLINK = re.compile(r"<((?:https?|mailto):[^<>\s]+)>")
_STRONG = re.compile(
    r"(?<![\w*])(\*\*\*|\*\*|\*)(?=[^\s*])(.{1,400}?)(?<=[^\s*])\1(?![\w*])"
    r"|(?<![\w_])(__|_)(?=[^\s_])(.{1,400}?)(?<=[^\s_])\3(?![\w_])"
)
_MARKED = re.compile(r"[`*_\[<\\]")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


def markdown(text: str) -> tuple[str, str]:
    """(title, text) of a Markdown file: headings, links, emphasis and tables as plain words, code as it is."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    title = ""
    if found := _FRONT_MATTER.match(text):
        text = text[found.end() :]
        named = re.search(r"^title:[ \t]*(.+)$", found[1], re.MULTILINE)
        title = _line(named[1].strip().strip("\"'")) if named else ""
    lines: list[str] = []
    fence = ""
    for line in _outside_fences(text):
        opened = _FENCE.match(line)
        if fence:
            if opened and opened[1].startswith(fence) and not opened[2].strip():
                fence = ""
            else:
                lines.append(line)
        elif opened and "`" not in opened[2]:
            fence = opened[1]
        elif line.startswith(("    ", "\t")) and (not lines or not lines[-1].strip() or lines[-1].startswith("    ")):
            lines.append(line)
        else:
            heading = _markdown_line(line, lines)
            title = title or heading
    return title, "\n".join(lines)


def _outside_fences(text: str) -> list[str]:
    """The lines of a text without the HTML comments that stand outside fenced code."""
    if "<!--" not in text:
        return text.split("\n")
    parts = re.split(r"(^ {0,3}(?:`{3,}|~{3,}).*?^ {0,3}(?:`{3,}|~{3,})[ \t]*$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if index % 2 else _without_comments(part) for index, part in enumerate(parts)).split("\n")


def _without_comments(text: str) -> str:
    kept = []
    at = 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start)) >= 0:
        kept.append(text[at:start])
        at = end + 3
    return "".join([*kept, text[at:]])


def _markdown_line(line: str, lines: list[str]) -> str:
    """Add a line outside code to `lines`; its text is returned if it is a heading."""
    line = _QUOTE.sub("", line)
    if heading := _ATX.match(line):
        words = _inline_markdown(heading[1]).strip()
        lines += ["", words, ""]
        return _line(words)
    if _SETEXT.match(line) and lines and lines[-1].strip() and "|" not in lines[-1]:
        words = lines[-1].strip()
        lines[-1:] = ["", words, ""]
        return _line(words)
    if _RULE.match(line) or (_TABLE_RULE.match(line) and "-" in line):
        return ""
    if not _REFERENCE.match(line):
        lines.append(_inline_markdown(line))
    return ""


def _inline_markdown(line: str) -> str:
    """Words of one line; nothing within code spans is touched but their backticks."""
    if len(line) > _LONGEST_MARKED_LINE or not _MARKED.search(line):
        return line
    pieces = []
    end = 0
    for span in _CODE_SPAN.finditer(line):
        pieces += [(line[end : span.start()], False), (span[2].strip() or span[2], True)]
        end = span.end()
    pieces.append((line[end:], False))
    # Code travels through the rules as one private character each, so that a link around code is still seen as one.
    code = [text for text, is_code in pieces if is_code]
    text = "".join("\ue000" if is_code else piece.replace("\ue000", "") for piece, is_code in pieces)
    if "<" in text:
        text = _HTML_TAG.sub("", _AUTOLINK.sub(r"\1", text))
    if "[" in text:
        text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", text))
    if "*" in text or "_" in text:
        for _ in range(2):  # strong within emphasis, or the other way round
            text = _STRONG.sub(lambda found: found[2] or found[4], text)
    text = _ESCAPE.sub(r"\1", text)
    inside = iter(code)
    return re.sub("\ue000", lambda _: next(inside), text)


# reStructuredText (documents as Sphinx projects write them, by rules of thumb)

_ADORNMENT = re.compile(r"^([!-/:-@\[-`{-~])\1{2,}[ \t]*$")
_DIRECTIVE = re.compile(r"^(\s*)\.\. ([\w:+.-]+)::[ \t]*(.*)$")
_EXPLICIT = re.compile(r"^(\s*)\.\.(?:[ \t]+.*)?$")
_OPTION = re.compile(r"^\s+:[\w -]+:(?:\s.*)?$")
_DROPPED_DIRECTIVES = frozenset(
    "image figure toctree index contents raw meta include literalinclude module currentmodule highlight "
    "sectionauthor moduleauthor automodule autoclass autofunction autosummary autodata automethod tabularcolumns "
    "default-role role graphviz plot bibliography testsetup testcleanup".split()
)
_VERSION_NOTES = {
    "versionadded": "Added in",
    "versionchanged": "Changed in",
    "deprecated": "Deprecated since",
    "versionremoved": "Removed in",
}
_ROLE = re.compile(r":[a-zA-Z][\w:+.-]*:`([^`]+)`")
_HYPERLINK = re.compile(r"`([^`<>]*?)\s*<[^<>`]+>`_{0,2}|`([^`<>]+)`_{1,2}")
_LITERAL = re.compile(r"``(.+?)``")
_INTERPRETED = re.compile(r"(?<![\w`])`([^`]+)`(?![\w`])")
_EMPHASIS = re.compile(r"(?<![\w*])(\*\*|\*)(?=[^\s*])([^*\n]+?)(?<=[^\s*])\1(?![\w*])")


def rst(text: str) -> tuple[str, str]:
    """(title, text) of a reStructuredText file: roles, links and directives as plain words, code as it is."""
    source = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    lines: list[str] = []
    title = ""
    at = 0
    while at < len(source):
        line = source[at]
        at += 1
        directive = _DIRECTIVE.match(line)
        if directive:
            if directive[2] == "title":
                title = title or _line(directive[3])
            at = _rst_directive(directive, source, at, lines)
        elif _EXPLICIT.match(line):
            at = _end_of_block(source, at, len(line) - len(line.lstrip()))
        elif _ADORNMENT.match(line):
            if lines and lines[-1].strip() and not lines[-1].startswith(" "):
                words = lines[-1].strip()
                lines[-1:] = ["", words, ""]
                title = title or _line(words)
        elif line.rstrip().endswith("::"):
            words = _inline_rst(line.rstrip()[:-1]) if line.strip() != "::" else ""
            lines.append(words)
            end = _end_of_block(source, at, len(line) - len(line.lstrip()))
            lines += source[at:end]
            at = end
        else:
            lines.append(_inline_rst(line))
    return title, "\n".join(lines)


def _rst_directive(found: re.Match[str], source: list[str], at: int, lines: list[str]) -> int:
    """Handle a directive whose first line is before `at`; returns the line to go on from."""
    indent, name, argument = len(found[1]), found[2], found[3]
    end = _end_of_block(source, at, indent)
    if name in _DROPPED_DIRECTIVES:
        return end
    while at < end and _OPTION.match(source[at]):
        at += 1
    if name in ("code-block", "code", "sourcecode", "doctest", "testcode", "parsed-literal", "productionlist", "math"):
        lines += ["", *source[at:end]]
        return end
    words = _inline_rst(argument)
    if name in _VERSION_NOTES:
        words = f"{_VERSION_NOTES[name]} version {words}" + ("" if words.endswith((".", ":")) else ".")
    lines.append(words)
    return at


def _end_of_block(source: list[str], at: int, indent: int) -> int:
    """The first line after `at` that is neither empty nor indented deeper than `indent`."""
    while at < len(source) and (not source[at].strip() or len(source[at]) - len(source[at].lstrip()) > indent):
        at += 1
    return at


def _inline_rst(line: str) -> str:
    if len(line) > _LONGEST_MARKED_LINE or ("`" not in line and "*" not in line):
        return line

    def role(found: re.Match[str]) -> str:
        words = re.sub(r"\s*<[^<>]+>$", "", found[1])
        return words.rsplit(".", 1)[-1] if words.startswith("~") else words.lstrip("!")

    pieces = _LITERAL.split(line)
    for index in range(0, len(pieces), 2):
        text = _ROLE.sub(role, pieces[index])
        text = _HYPERLINK.sub(lambda found: found[1] or found[2], text)
        text = _INTERPRETED.sub(r"\1", text)
        pieces[index] = _EMPHASIS.sub(r"\2", text)
    return "".join(pieces)
