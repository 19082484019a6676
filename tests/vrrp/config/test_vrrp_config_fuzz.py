"""No bytes crash the reader; what it answers is always a configuration and findings."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vrrp.config.reading import read
from vrrp.config.tables.catalogue import ALL_TABLES

CORPUS = [path.read_bytes() for path in sorted((Path(__file__).parent / "corpus").glob("*.conf"))]
WORDS = sorted({keyword.name for table in ALL_TABLES for keyword in table.keywords})
VALUES = [
    "1", "255", "0.5", "-1", "9" * 20, "10.0.0.1", "10.0.0.1/24", "fe80::1/64", "eth0", "A", '"x y"', "'", '"', "\\", "$A", "${A}",
    "$A=1", "~SEQ(A,1,3)", "~LST(A,1,2)", "@node", "{", "}", "{\n", "\n}\n", "\n", "#", "weight", "dev", "via", "nexthop", "from", "١",
]  # fmt: skip

relaxed = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def survive(data: bytes) -> None:
    with TemporaryDirectory() as directory:
        loaded = read(Path(directory), data)
    assert pickle.loads(pickle.dumps(loaded)) == loaded
    for finding in loaded.diagnostics:
        assert str(finding)
        assert finding.position.line >= 0


@relaxed
@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    survive(data)


@relaxed
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(VALUES)), max_size=60))
def test_random_words(words: list[str]) -> None:
    survive(" ".join(words).encode())


@relaxed
@given(
    st.sampled_from(CORPUS),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["cut", "twice", "byte"]), st.binary(max_size=6)), max_size=6),
)
def test_mutated_files(text: bytes, changes: list[tuple[float, str, bytes]]) -> None:
    for place, kind, data in changes:
        at = int(place * len(text))
        if kind == "cut":
            text = text[:at] + text[at + 1 + len(data) :]
        elif kind == "twice":
            text = text[:at] + text[at : at + 40] + text[at:]
        else:
            text = text[:at] + data + text[at:]
    survive(text)


@relaxed
@given(
    st.sampled_from([(table.name, keyword.name) for table in ALL_TABLES for keyword in table.keywords]),
    st.lists(st.one_of(st.sampled_from(VALUES[:20]), st.text(max_size=8)), max_size=5),
)
def test_any_value_of_any_keyword(slot: tuple[str, str], values: list[str]) -> None:
    block, keyword = slot
    text = " ".join([keyword, *values])
    for name in reversed([] if block.startswith("(") else block.split("/")):
        text = f"{name} 10.0.0.1 80 {{\n{text}\n}}"
    survive(text.encode("utf-8", "surrogatepass"))
