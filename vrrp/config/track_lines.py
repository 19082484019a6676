"""Lines of track_interface, track_script, track_file, track_process, track_bfd and of unicast_peer."""

from __future__ import annotations

from dataclasses import dataclass

from vrrp.config.keyword import REJECTED, Reading, Rejected, Value
from vrrp.config.model.instance import UnicastPeer
from vrrp.config.syntax import Statement, Word
from vrrp.config.values import line_list, read_address, read_integer, without_length


@dataclass(frozen=True, slots=True)
class TrackLine:
    """A line as written; None = not given, then the tracked object's own weight counts."""

    name: Word
    weight: int | None = None
    reverse: bool | None = None


def tracks(what: str, limit: int) -> Value:
    """A block of ``NAME [weight N] [reverse]`` lines, as a tuple of TrackLine. ``limit``: largest weight either way."""
    return line_list(f"{what} [weight -{limit}..{limit}] [reverse]", lambda reading, line: _read_track(reading, line, what, limit))


def _read_track(reading: Reading, line: Statement, what: str, limit: int) -> object:
    weight: int | None = None
    reverse: bool | None = None
    words = list(line.words[1:])
    while words:
        option = words.pop(0)
        if option.text == "weight":
            if not words:
                return reading.error(
                    option, f"'weight' of {line.keyword} has no value", f"write: {line.keyword} weight -10", "missing-value"
                )
            given = read_integer(reading, words.pop(0), f"weight of {line.keyword}", -limit, limit)
            if isinstance(given, Rejected):
                return REJECTED
            weight = given
        elif option.text in ("reverse", "noreverse", "no_reverse"):
            reverse = option.text == "reverse"
        else:
            remedy = f"write one {what} in each line; the options are 'weight N' and 'reverse'"
            return reading.error(option, f"'{option.text}' after {line.keyword} is unknown", remedy)
    return TrackLine(line.words[0], weight, reverse)


def peers() -> Value:
    """A block of ``ADDRESS [min_ttl N] [max_ttl N]`` lines, as a tuple of UnicastPeer."""
    return line_list("ADDRESS [min_ttl N] [max_ttl N]", _read_peer)


def _read_peer(reading: Reading, line: Statement) -> object:
    address = read_address(reading, without_length(reading, line.words[0], "the peer"), "unicast peer")
    if isinstance(address, Rejected):
        return REJECTED
    limits: dict[str, int | None] = {"min_ttl": None, "max_ttl": None}
    words = list(line.words[1:])
    while words:
        option = words.pop(0)
        if option.text not in limits:
            return reading.error(option, f"'{option.text}' after the peer {address} is unknown", "write one peer in each line")
        if not words:
            return reading.error(option, f"'{option.text}' has no value", f"write: {option.text} 0..255", "missing-value")
        limit = read_integer(reading, words.pop(0), option.text, 0, 255)
        if isinstance(limit, Rejected):
            return REJECTED
        limits[option.text] = limit
    low, high = limits["min_ttl"], limits["max_ttl"]
    if low is not None and high is not None and low > high:
        return reading.error(line, f"min_ttl of {address} is above max_ttl", "swap them")
    return UnicastPeer(address, low, high, line.position)
