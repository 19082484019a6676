"""Makes docs/COMPATIBILITY.md out of the keyword tables.

``python -m vrrp.config.compatibility`` prints it, ``--write`` puts it in place; a test holds the file current.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from vrrp.config.keyword import Keyword, Mark, Status, Table
from vrrp.config.measured_faults import faults_section
from vrrp.config.shown_by import shown_slots, slot_name
from vrrp.config.tables.catalogue import ALL_TABLES

DOCUMENT = Path(__file__).parents[2] / "docs" / "COMPATIBILITY.md"

_INTRODUCTION = """\
<!-- Generated from vrrp/config/tables by `python -m vrrp.config.compatibility --write`. Do not edit. -->

# keepalived.conf, keyword by keyword

`vrrpd` reads keepalived.conf as keepalived 2.2.7 and its successors up to 2.4 do. Every keyword of every block is listed
here with what this version does with it:

- **implemented**: the daemon acts on it as keepalived does. *Shown by* names tests (under `tests/`) that prove it; they say so
  themselves, with `pytest.mark.shows` (CONTRIBUTING.md).
- **nothing to do**: read and checked; where it stands it has no effect in keepalived either, or it tunes a part that vrrpd does
  not need. Nothing is lost.
- **accepted, without effect**: read, checked, kept; `vrrpd -t` says so, as a warning where something is lost (second line).
- **refused**: the file is an error, because ignoring the keyword would be dangerous.

*Use*: core = in nearly every tutorial, common = in many files, rare = the rest. *2.4* = unknown to keepalived 2.2.7.
*ours* = no keepalived knows it. A line that begins with `@vrrpd` is read by vrrpd and skipped by keepalived, so one file can serve both.
An unknown keyword is an error that names the nearest known one; keepalived logs it and runs on.

## Where vrrpd differs on purpose

| subject | keepalived | vrrpd |
|---|---|---|
| unknown keyword, number out of range, unknown name | complains, uses a default, runs | refuses the file; a reload changes nothing |
| deprecated word, `interval 0`, rounding, conflicts with strict mode | complains, corrects, runs | warns, corrects the same way, runs |
| missing script | drops it from tracking | warns; it counts as failed |
| script that others can change, with enable_script_security | drops it in silence | refuses the file |
| unicast advert from no `unicast_peer` | believed, unless check_unicast_src | refused; `check_unicast_src off`: believed |
| unicast advert of a peer on our link with a TTL other than 255 | believed | refused, unless it is the `unicast_ttl` of this instance, or \
64 over IPv6 without `unicast_ttl` (keepalived's); `PEER min_ttl 1` believes any; peers behind a router may have any TTL |
| `check_unicast_src off` | switches it on | switches it off |
| auth_hmac without a usable active_key or key file | switches it off: bare adverts | refuses the file |
| MASTER whose adverts cannot leave (EPERM, no route) | logs each; stays MASTER for ever | says so once, counts, shows `unsent_in_a_row`; \
`unheard_fault` hands over and comes back when packets may leave |
| `track_src_ip`, and the address goes | 2.2.7: stays MASTER | FAULT, as documented |
| two nodes whose sync group members win on different sides | drive each other out again and again (#2190) | one waits longer: settles \
within a few master down intervals |
| the first of several addresses in another subnet moves away | MASTER without the others: the kernel took them along | puts them back |
| `skip_check_adv_addr off` | switches it on | switches it off |
| `track_process` in a network namespace | no kernel events: nothing ever counts as running | looks at /proc 4 times a second |
| `track_interface` and other names given twice | complains | warns, the first counts |

## What was doubtful in keepalived's source, tried on both (2.2.7; `tests/vrrp/interop/test_doubts.py` and beside it)

| doubt | keepalived | vrrpd |
|---|---|---|
| a tracked script is deleted | counts as success: stays MASTER | counts as failed: hands over |
| own adverts are dropped by nftables (EPERM) | two owners for as long as it lasts | said, counted; with `unheard_fault` one owner |
| each reload and each transition adds a refresh timer of GARPs | not so: 4 announcements in 4 s after four of either | the same |
| a BACKUP that learned its master's interval keeps it as MASTER (without -D) | not so: sends at its own | the same |
| lines of the FIFO end in a NUL | VRRP: no; LVS: yes | the same, for the sake of readers that expect it |
| `track_src_ip`, and the address goes | stays MASTER | FAULT |
| weighted tracker in a sync group without sync_group_tracking_weight | weight 0: a failure is a FAULT of the group | the same |

## The language

| directive | what it does |
|---|---|
| `include FILE` | read FILE here; globs and `{a,b}`; relative to the file that includes |
| `includer` `includem` `includew` `includeb` `includea` | with checks: readable, match, wildcard_match, brace_match, all |
| `@ID line`, `@^ID line` | only with (without) configuration id ID: `-i ID`, default: host name up to the first dot |
| `@vrrpd line`, `@^vrrpd line` | only for vrrpd (only for keepalived): every vrrpd has this id beside its own |
| `$NAME=value`, `$NAME`, `${NAME}` | definition and use; replaced where it is used, again and again; undefined names stay |
| `$NAME=\\` … | a definition of several lines, each but the last ending in a backslash |
| `${_PWD}` `${_INSTANCE}` `${_ENV NAME}` | directory of the file, configuration id, environment |
| `${_RANDOM [MIN [MAX]]}` `${_HASH}` `${_BANG}` | a random number, `#`, `!` |
| `~SEQ(V, [START,] [STEP,] END) line`, `~SEQx(…)` | the line once per number, hexadecimal with `x`; may be nested |
| `~LST(V, a, b) line`, `~LST({V,W}, {a,b}, {c,d}) line` | the line once per value |

Bounds: 4 MiB a file, 1000 files, 16 levels of include, 500 000 lines after expansion, 20 levels of blocks.
"""


def document() -> str:
    """The whole page."""
    lines = [_INTRODUCTION, *filter(None, [faults_section()]), _summary(), "## Keywords\n"]
    shown = shown_slots()
    for table in ALL_TABLES:
        lines.append(_section(table, shown))
    return "\n".join(lines)


def _summary() -> str:
    keywords = [keyword for table in ALL_TABLES for keyword in table.keywords]
    counts = Counter((keyword.mark, keyword.status) for keyword in keywords)
    rows = ["## Summary\n", "| use | " + " | ".join(status.value for status in Status) + " | all |", "|---|" + "---|" * (len(Status) + 1)]
    for mark in Mark:
        numbers = [counts[mark, status] for status in Status]
        rows.append(f"| {mark.value} | " + " | ".join(map(str, [*numbers, sum(numbers)])) + " |")
    total = [sum(counts[mark, status] for mark in Mark) for status in Status]
    rows.append("| all | " + " | ".join(map(str, [*total, sum(total)])) + " |\n")
    return "\n".join(rows)


def _section(table: Table, shown: dict[str, list[str]]) -> str:
    rows = [f"### `{table.name}`\n", "| keyword | value | use | standing | meaning | shown by |", "|---|---|---|---|---|---|"]
    rows += [_row(keyword, shown.get(slot_name(table, keyword), [])) for keyword in table.keywords]
    return "\n".join(rows) + "\n"


def _row(keyword: Keyword, shown: list[str]) -> str:
    standing = keyword.status.value
    if keyword.loss:
        standing += f": {keyword.loss}"
    meaning = keyword.note
    if keyword.instead:
        meaning = f"deprecated: write {keyword.instead}" + (f" ({meaning})" if meaning else "")
    use = keyword.mark.value + (", 2.4" if keyword.newer else "") + (", ours" if keyword.ours else "")
    value = f"`{keyword.value.syntax}`" if keyword.value.syntax else ""
    tests = "<br>".join(f"`{name}`" for name in shown) if keyword.status is Status.ACTS else ""
    return f"| `{keyword.name}` | {_cell(value)} | {use} | {_cell(standing)} | {_cell(meaning)} | {tests} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Print the page, or write it with ``--write``."""
    if arguments == ["--write"]:
        DOCUMENT.write_text(document(), encoding="utf-8")
    else:
        sys.stdout.write(document())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
