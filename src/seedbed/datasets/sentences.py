"""Clean complete sentences out of documents: what instruction answers are made of."""

from __future__ import annotations

import re

_ROLE = re.compile(r":[a-z:]+:`~?!?([^`<>]+?)(?:\s*<[^`]*>)?`")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)|`([^`<>]+?)\s*<[^`>]*>`_+")
_MARKS = re.compile(r"``|`|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)")
# A full stop ends a sentence when the next word starts like one and the last was no abbreviation.
_END = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\b[A-Z])"
    r"[.!?][)\"'”’]?(?=\s+[\"'(“‘]?[A-Z]|\s*$)"
)
_LOWER_CASE_END = re.compile(  # of text without a capital letter
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)(?<!\bdr)(?<!\bmr)(?<!\bmrs)(?<!\b[a-z])[.!?][)\"'”’]?(?=\s|$)"
)
_UNCLEAN = re.compile(r">>>|\.\.\.|::|[{}<>|=\\@#]|https?:|\S{36}|--|(?:^|\s)[-*+] |\d{6}")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.{2,100}?)[ \t]*#*[ \t]*$|^(\S.{1,100})\n[=\-~^\"]{3,}[ \t]*$", re.MULTILINE)


def plain(text: str) -> str:
    """Text on one line, without the marks of reStructuredText and Markdown."""
    text = _ROLE.sub(r"\1", text)
    text = _LINK.sub(lambda found: found.group(1) or found.group(2), text)
    return " ".join(_MARKS.sub("", text).split())


def split_sentences(paragraph: str) -> list[str]:
    """Sentences of one paragraph, marks removed; the last may lack its full stop."""
    text, sentences, start = plain(paragraph), [], 0
    for end in (_LOWER_CASE_END if text.islower() else _END).finditer(text):
        sentences.append(text[start : end.end()].strip())
        start = end.end()
    rest = text[start:].strip()
    return [*sentences, rest] if rest else sentences


def complete(sentence: str, minimum: int, maximum: int) -> str | None:
    """The sentence with its full stop if it is a clean one of `minimum` to `maximum` words, else None.

    A last line without a stop, as in one-line docstrings, gets one; code, lists, urls, open brackets do not pass.
    """
    if not minimum <= len(sentence.split()) <= maximum or _UNCLEAN.search(sentence):
        return None
    if not balanced(sentence) or not re.match(r"[A-Z]\w*[ ,'’-]|[AI] ", sentence):
        return None
    if re.search(r"[.!?][)\"'”’]?$", sentence):
        return sentence
    return sentence + "." if re.search(r"[\w)\"'”’]$", sentence) else None


def balanced(text: str) -> bool:
    """Whether brackets close in order and double quotes and back-ticks come in pairs."""
    stack = []
    for mark in re.findall(r"[()\[\]]", text):
        if mark in "([":
            stack.append(mark)
        elif not stack or "([".index(stack.pop()) != ")]".index(mark):
            return False
    return not stack and text.count('"') % 2 == 0 and text.count("`") % 2 == 0


def sections(text: str) -> list[tuple[str, str]]:
    """(heading, text up to the next heading) of Markdown and underlined headings, in order."""
    found = list(_HEADING.finditer(text))
    ends = [*(heading.start() for heading in found[1:]), len(text)] if found else []
    return [
        (plain(heading.group(1) or heading.group(2)), text[heading.end() : end].strip())
        for heading, end in zip(found, ends, strict=True)
    ]


def paragraphs(text: str) -> list[str]:
    """Paragraphs that are prose: no headings, lists or indented code."""
    text = _HEADING.sub("", text)
    blocks = (block.strip("\n") for block in re.split(r"\n\s*\n", text))
    return [block for block in blocks if block and not re.match(r"\s{4}|\s*([-*+>]|\d+[.)])\s|```", block)]
