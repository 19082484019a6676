"""include, conditions, definitions, loops."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from base.diagnostics import Diagnostics
from tests.vrrp.config.reading import findings, only_error, read
from vrrp.config.source import Environment, SourceReader, expand_braces


def lines(directory: Path, text: str, config_id: str = "alpha") -> tuple[list[str], Diagnostics]:
    path = directory / "main.conf"
    path.write_text(text)
    found = Diagnostics()
    reader = SourceReader(Environment(config_id, {"RACK": "r7"}, 1), found)
    return [" ".join(line.text.split()) for line in reader.read(str(path))], found


def test_conditions(tmp_path: Path) -> None:
    text = "@alpha a 1\n@beta b 2\n@^alpha c 3\n@^beta d 4\n  @alpha @^beta e 5\n$ID=@alpha\n$ID f 6\n"
    got, found = lines(tmp_path, text)
    assert got == ["a 1", "d 4", "e 5", "f 6"]
    assert not found.items


def test_a_definition_is_replaced_where_it_is_used(tmp_path: Path) -> None:
    text = "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\nx $SUB y$SUB $SUBX ${NO} $SUB"
    got, _ = lines(tmp_path, text)
    assert got == ["10.2.0.100/32", "10.2.10.100/32", "x 10 y10 $SUBX ${NO} 10"]


def test_a_definition_of_several_lines_nests(tmp_path: Path) -> None:
    text = """\
$RS= \\
real_server ${N} { \\
    @alpha weight 1 \\
    @beta weight 2 \\
}
$VS= \\
virtual_server ${V} { \\
    $N=1 \\
    $RS \\
    $N=2 \\
    $RS \\
}
$V=7
$VS
after
"""
    got, found = lines(tmp_path, text)
    server = ["weight 1", "}"]
    assert got == ["virtual_server 7 {", "real_server 1 {", *server, "real_server 2 {", *server, "}", "after"]
    assert not found.items


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~SEQ(S, 0, 3) 10.0.${S}.1", ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1"]),
        ("~SEQ(S, 2) ${S}", ["1", "2"]),
        ("~SEQ(S, -2) ${S}", ["-1", "-2"]),
        ("~SEQ(S, 10, -5, 0) ${S}", ["10", "5", "0"]),
        ("~SEQx(S, 0x90, 0x10, 0xb0) fe80::${S}:1", ["fe80::90:1", "fe80::a0:1", "fe80::b0:1"]),
        ("~LST(I, 1, b) ~LST(J, 5,6) ${I}.${J}", ["1.5", "1.6", "b.5", "b.6"]),
        ("~LST({I, J}, {10,1},{20,4}) ${I}.${J}", ["10.1", "20.4"]),
        ("$N=2\n~SEQ(S, 1, $N ) ${S}", ["1", "2"]),
        ("~LST(I,1) ~SEQ(J,2,4) $K\n", ["$K"] * 3),
    ],
)
def test_loops(tmp_path: Path, text: str, expected: list[str]) -> None:
    got, found = lines(tmp_path, text)
    assert got == expected
    assert not found.items


@pytest.mark.parametrize(
    "text", ["~SEQ(S) x", "~SEQ(S, 1, 0, 5) x", "~SEQ(S, a, b) x", "~SEQ(1, 2) x", "~LST(A) x", "~LST({A,B}, {1}) x", "~LST(A, 1"]
)
def test_a_wrong_loop_is_an_error_of_that_line(tmp_path: Path, text: str) -> None:
    got, found = lines(tmp_path, f"ok\n{text}\nok\n")
    assert got == ["ok", "ok"]
    assert [d.position.line for d in found.errors] == [2]
    assert all(d.remedy for d in found.errors)


@pytest.mark.shows("global_defs/random_seed")
def test_predefined_values(tmp_path: Path) -> None:
    got, _ = lines(tmp_path, "${_PWD} ${_INSTANCE} ${_ENV RACK} x${_HASH}${_BANG}y")
    assert got == [f"{tmp_path} alpha r7 x#!y"]
    numbers = [int(number) for number in lines(tmp_path, "~SEQ(I, 50) ${_RANDOM 3 5}")[0]]
    assert set(numbers) == {3, 4, 5}
    assert lines(tmp_path, "random_seed 5\n${_RANDOM}")[0] == lines(tmp_path, "random_seed 5\n${_RANDOM}")[0]


def test_include_is_relative_to_the_including_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.conf").write_text("one\ninclude two.inc\n")
    (tmp_path / "a" / "two.inc").write_text("two ${_PWD}\n")
    (tmp_path / "a" / "three.conf").write_text("three\n")
    got, found = lines(tmp_path, "include a/*.conf\ninclude a/{one,three}.conf\nend\n")
    inner = ["one", f"two {tmp_path}/a"]
    assert got == [*inner, "three", *inner, "three", "end"] or got == ["three", *inner, *inner, "three", "end"]
    assert not found.errors


@pytest.mark.parametrize(
    ("line", "errors"),
    [
        ("include no.conf", 0),
        ("include no/*.conf", 0),
        ("includer no.conf", 1),
        ("includem no.conf", 1),
        ("includem no/*.conf", 0),
        ("includew no/*.conf", 1),
        ("includeb {yes,no}.conf", 1),
        ("includea no/*.conf", 1),
        ("include_check match\ninclude no.conf", 1),
        ("include_check +match -match\ninclude no.conf", 0),
        ("include_check\ninclude no/*.conf", 1),
        ("include", 1),
    ],
)
@pytest.mark.shows("global_defs/include_check")
def test_how_strict_include_is(tmp_path: Path, line: str, errors: int) -> None:
    (tmp_path / "yes.conf").write_text("")
    got, found = lines(tmp_path, line + "\nend\n")
    assert len(found.errors) == errors
    assert got[-1] == "end"


def test_a_finding_in_an_included_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "globals.inc").write_text("\nglobal_defs {\n  routerid x\n}\n")
    loaded = read(tmp_path, "include globals.inc\n")
    assert only_error(loaded).position.file == str(tmp_path / "globals.inc")
    assert (only_error(loaded).position.line, only_error(loaded).position.column) == (3, 3)
    assert loaded.files == (str(tmp_path / "keepalived.conf"), str(tmp_path / "globals.inc"))


def test_a_finding_in_a_macro_names_the_line_of_the_definition_and_of_the_use(tmp_path: Path) -> None:
    error = only_error(read(tmp_path, "$V= \\\nglobal_defs { \\\n  routerid x \\\n}\n\n$V\n"))
    assert (error.position.line, error.position.column) == (3, 3)
    assert f"{tmp_path}/keepalived.conf:6" in error.message


def test_a_replaced_word_keeps_the_column_of_its_use(tmp_path: Path) -> None:
    loaded = read(tmp_path, "$P=999\nvrrp_instance A {\n interface eth0\n virtual_router_id 1\n  priority $P\n}\n")
    assert findings(loaded)[0] == (5, 12, "out-of-range")


@pytest.mark.parametrize(
    "text",
    [
        "$A=$A \nx $A \n",
        "$A=${B}${B}\n$B=${A}${A}\n${A}\n",
        "$A= \\\n x \\\n $A\n$A\n",
        "~SEQ(A, 1, 100000000) x\n",
        "~SEQ(A,1,2000) ~SEQ(B,1,2000) x\n",
        "include keepalived.conf\n",
        "include main.conf\n",
    ],
)
def test_what_would_never_end_is_an_error(tmp_path: Path, text: str) -> None:
    _, found = lines(tmp_path, text) if "keepalived" not in text else ([], Diagnostics())
    errors = found.errors or list(read(tmp_path, text).errors)
    assert any(d.code == "bound" for d in errors)


def test_braces_of_a_pattern() -> None:
    assert expand_braces("{foo/{,cat,dog},bar}") == ["foo/", "foo/cat", "foo/dog", "bar"]
    assert expand_braces("a{b") == ["a{b"]
    assert len(expand_braces("{a,b}" * 12)) <= 1000


def test_all_includes_may_be_demanded_from_outside(tmp_path: Path) -> None:
    assert not read(tmp_path, "include no.conf\n").errors
    assert only_error(read(tmp_path, "include no.conf\n", all_config=True)).code == "include"


def test_nested_loops_are_bounded_in_time_and_memory(tmp_path: Path) -> None:
    """Four loops of 40 took 42 s and 548 MiB (A11)."""
    begin = time.process_time()
    loaded = read(tmp_path, "~SEQ(a, 1, 40) ~SEQ(b, 1, 40) ~SEQ(c, 1, 40) ~SEQ(d, 1, 40) x $a $b $c $d\n")
    assert any(d.code == "bound" for d in loaded.errors)
    assert time.process_time() - begin < 15
