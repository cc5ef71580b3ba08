"""Personal data: e-mail addresses, telephone numbers, IP addresses, payment cards and secret keys, masked or dropped.

Each kind is found by its form and then checked by what the form alone does not say: cards by Luhn's digit (ISO/IEC
7812), IP addresses by being public, telephone numbers by a country code or by the shape of North American ones.
Patterns take linear time on any text.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from typing import Literal

from pydantic import field_validator

from ..core.config import Config


class PersonalDataConfig(Config):
    """
    Attributes:
        kinds: of email, phone, ip, card, key; null takes the preset's.
        action: "mask" puts `<email>` and so on in their places; "drop" refuses documents that hold any.
    """

    kinds: tuple[str, ...] | None = None
    action: Literal["mask", "drop"] = "mask"

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for kind in kinds or ():
            if kind not in KINDS:
                raise ValueError(f"unknown kind '{kind}' (there are: {', '.join(KINDS)})")
        return kinds

    def resolve(self, of_preset: tuple[str, ...]) -> tuple[str, ...]:
        wanted = of_preset if self.kinds is None else self.kinds
        return tuple(kind for kind in KINDS if kind in wanted)


def is_card(digits: str) -> bool:
    """Whether a number has a payment card's length, first digit and check digit.

    >>> is_card("4111 1111 1111 1111"), is_card("4111 1111 1111 1112")
    (True, False)
    """
    numbers = [int(digit) for digit in digits if digit.isascii() and digit.isdigit()]
    if not 13 <= len(numbers) <= 19 or numbers[0] not in (2, 3, 4, 5, 6) or len(set(numbers)) == 1:
        return False
    doubled = [sum(divmod(2 * number, 10)) if place % 2 else number for place, number in enumerate(reversed(numbers))]
    return sum(doubled) % 10 == 0


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_phone(text: str) -> bool:
    digits = sum(map(str.isdigit, text))
    return 8 <= digits <= 15 if text.startswith("+") else digits == 10


def _always(text: str) -> bool:
    return True


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# Kind to the sign without which there is none of it, its form and its check. Keys come first: they may hold the others.
KINDS: dict[str, tuple[re.Pattern[str], re.Pattern[str], Callable[[str], bool]]] = {
    "key": (
        re.compile(r"AKIA|ASIA|gh[pousr]_|github_pat_|sk-|xox|AIza|eyJ|PRIVATE KEY"),
        re.compile(
            r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----(?:[A-Za-z0-9+/=\s:,]|-(?!-))*+"
            r"-----END (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----"
            r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9_]{50,255}\b"
            r"|\bsk-(?:[a-z]{2,10}-)?[A-Za-z0-9_-]{20,200}\b|\bxox[abeprs]-[A-Za-z0-9-]{10,200}|\bAIza[0-9A-Za-z_-]{35}\b"
            r"|\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000}"
        ),
        _always,
    ),
    "email": (
        re.compile("@"),
        re.compile(
            r"(?<![A-Za-z0-9!#$%&'*+/=?^_`{|}~.-])[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@"
            rf"(?:{_LABEL}\.){{1,8}}[A-Za-z]{{2,24}}\b"
        ),
        _always,
    ),
    "card": (re.compile(r"\d(?:[ -]?\d){12}"), re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d.])"), is_card),
    "ip": (
        re.compile(r"\d\.\d|:[0-9A-Fa-f]{0,4}:"),
        re.compile(
            r"(?<![\w.:])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)|(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])"
        ),
        _is_public,
    ),
    "phone": (
        re.compile(r"\+[\d(]|\d{3}[-.\s)]"),
        re.compile(
            r"(?<![\w.+-])\+\(?\d(?:[ ().-]{0,2}\d){7,14}(?![\w-])"
            r"|(?<![\w.+-])(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{4}(?![\w-])"
        ),
        _is_phone,
    ),
}


def mask_personal_data(text: str, kinds: tuple[str, ...]) -> tuple[str, Counter[str]]:
    """`text` with a mark such as `<email>` where personal data was, and how much there was of each kind.

    >>> mask_personal_data("Write to jane.doe@example.org!", ("email",))
    ('Write to <email>!', Counter({'email': 1}))
    """
    found: Counter[str] = Counter()
    for kind in kinds:
        sign, form, check = KINDS[kind]
        if not sign.search(text):
            continue

        def replace(match: re.Match[str], kind: str = kind, check: Callable[[str], bool] = check) -> str:
            if not check(match[0]):
                return match[0]
            found[kind] += 1
            return f"<{kind}>"

        text = form.sub(replace, text)
    return text, found
