"""Words, statements and blocks."""

from __future__ import annotations

import pytest

from base.diagnostics import Diagnostics
from vrrp.config.source import strip_comment
from vrrp.config.syntax import Line, Statement, SyntaxReader

SHELL_QUOTED = frozenset({"script", "notify"})


def parse(text: str) -> tuple[tuple[Statement, ...], Diagnostics]:
    found = Diagnostics()
    reader = SyntaxReader(found, SHELL_QUOTED.__contains__, {"vrrp_instance"}.__contains__)
    lines = [Line(line, "f", number) for number, line in enumerate(text.split("\n"), 1)]
    return reader.read(lines), found


def shape(statements: tuple[Statement, ...]) -> list[object]:
    """Nested lists of words: easy to compare."""
    out: list[object] = []
    for statement in statements:
        out.append([word.text for word in statement.words])
        if statement.block is not None:
            out.append(shape(statement.block))
    return out


@pytest.mark.parametrize(
    "text",
    [
        "a {\n b 1\n c\n}",
        "a{ b 1\n c }",
        "a\n{\n b 1\n\n c\n}",
        "a { b 1\nc\n}\n",
        "a {b 1\n c}",
    ],
)
def test_braces_may_stand_anywhere(text: str) -> None:
    statements, found = parse(text)
    assert shape(statements) == [["a"], [["b", "1"], ["c"]]]
    assert not found.items


def test_a_block_of_one_line() -> None:
    statements, _ = parse("a { b }\nc { d { e } }")
    assert shape(statements) == [["a"], [["b"]], ["c"], [["d"], [["e"]]]]


def test_double_quotes_group_words_without_escapes() -> None:
    statements, _ = parse(r'name "two words" x"y z" "" "a\b {"')
    assert [word.text for word in statements[0].words] == ["name", "two words", "x", "y z", "", r"a\b {"]


def test_script_keywords_follow_the_shell() -> None:
    statements, _ = parse(r"""script "/bin/a 'b c'" plain\ word d'e f'g "\x41\102\tx" \cA""")
    assert [word.text for word in statements[0].words][1:] == ["/bin/a 'b c'", "plain word", "de fg", "AB\tx", "\x01"]


def test_braces_in_quotes_are_text() -> None:
    statements, _ = parse("notify '/bin/x {1}' {\n}")
    assert shape(statements) == [["notify", "/bin/x {1}"], []]


def test_words_know_their_column() -> None:
    statements, _ = parse("\n  a  bb {c}")
    words = [*statements[0].words, *statements[0].block[0].words]
    assert [(word.position.line, word.position.column) for word in words] == [(2, 3), (2, 6), (2, 10)]


def test_an_open_block_is_reported_where_it_begins() -> None:
    _, found = parse("a {\n b {\n }\n")
    assert [(d.position.line, d.code) for d in found] == [(1, "brace")]


def test_a_block_that_swallows_the_next_one_is_found_out() -> None:
    statements, found = parse("vrrp_instance A {\n b {\n c\n}\nvrrp_instance B {\n}")
    assert [(d.position.line, d.code) for d in found] == [(1, "brace")]
    assert [s.words[1].text for s in statements] == ["A", "B"]


@pytest.mark.parametrize(("text", "line"), [("a\n}\nb", 2), ("{\n}\nb", 1), ("a { x } }\nb", 1)])
def test_a_brace_without_partner(text: str, line: int) -> None:
    statements, found = parse(text)
    assert [(d.position.line, d.code) for d in found] == [(line, "brace")]
    assert statements[-1].keyword == "b"


def test_an_open_quote_is_reported_and_reading_goes_on() -> None:
    statements, found = parse('a "b c\nd')
    assert [(d.position.line, d.position.column, d.code) for d in found] == [(1, 3, "quote")]
    assert shape(statements) == [["a", "b c"], ["d"]]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a # b", "a "),
        ("a ! b", "a "),
        ('a "# ! b" # c', 'a "# ! b" '),
        (r"a \# b", "a # b"),
        ("# all", ""),
        ("plain", "plain"),
    ],
)
def test_comments(text: str, left: str) -> None:
    assert strip_comment(text) == left
