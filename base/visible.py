"""Characters that nobody sees, made visible: blanks that are none, byte order marks, zero-width ones, bytes that are no UTF-8. Pure."""

from __future__ import annotations

import unicodedata

_UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp", "Cs", "Co", "Cn")
_SURROGATE = 0xDC00
FULL_WIDTH = (0xFF01, 0xFF5E)


def visible(text: str) -> str:
    """``text`` with each unseen character as <U+00A0>, and each byte that is no UTF-8 (surrogateescape) as <0xC3>."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char == " " or unicodedata.category(char) not in _UNSEEN:
        return char
    number = ord(char)
    return f"<0x{number - _SURROGATE:02X}>" if _SURROGATE <= number <= _SURROGATE + 0xFF else f"<U+{number:04X}>"


def is_misleading(char: str) -> bool:
    """Does it look like a blank, like nothing, or like an ASCII character that it is not?"""
    number = ord(char)
    if number < 0x80:
        return number < 0x20 and char not in "\t\r\n\f\v"
    return unicodedata.category(char) in _UNSEEN or FULL_WIDTH[0] <= number <= FULL_WIDTH[1]


def called(char: str) -> str:
    """What to tell somebody about one misleading character."""
    number = ord(char)
    if _SURROGATE <= number <= _SURROGATE + 0xFF:
        return f"the byte 0x{number - _SURROGATE:02X}, which is no UTF-8"
    name = unicodedata.name(char, "control character").lower()
    look = f", which looks like '{chr(number - 0xFEE0)}'" if FULL_WIDTH[0] <= number <= FULL_WIDTH[1] else ""
    return f"U+{number:04X} ({name}){look}"
