"""The byte alphabet of byte-level BPE: every byte has a printable character, so vocabularies are readable JSON.

Source: `bytes_to_unicode` of GPT-2's encoder. Bytes that are printable characters of Latin-1 stand for themselves;
the others follow from U+0100 on (a space is `Ġ`, a line feed `Ċ`).
"""

from __future__ import annotations

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_SHIFTED = [byte for byte in range(256) if byte not in set(_PRINTABLE)]

CHARACTER_OF_BYTE: dict[int, str] = {
    **{byte: chr(byte) for byte in _PRINTABLE},
    **{byte: chr(256 + index) for index, byte in enumerate(_SHIFTED)},
}
BYTE_OF_CHARACTER: dict[str, int] = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}

# The order in which vocabularies list the bytes: by character.
BYTE_ORDER = bytes(byte for _, byte in sorted(BYTE_OF_CHARACTER.items()))

_TO_CHARACTERS = {byte: ord(character) for byte, character in CHARACTER_OF_BYTE.items()}
_TO_BYTES = {ord(character): byte for character, byte in BYTE_OF_CHARACTER.items()}
_ALPHABET = frozenset(BYTE_OF_CHARACTER)


def to_characters(data: bytes) -> str:
    """The bytes as a token is written in a vocabulary."""
    return data.decode("latin-1").translate(_TO_CHARACTERS)


def to_bytes(token: str) -> bytes:
    """The bytes of a token of a vocabulary; one with other characters (an added token, say) is its own UTF-8."""
    if is_byte_level(token):
        return token.translate(_TO_BYTES).encode("latin-1")
    return token.encode("utf-8", errors="surrogatepass")


def is_byte_level(token: str) -> bool:
    return _ALPHABET.issuperset(token)
