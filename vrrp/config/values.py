"""How single values are written and read: numbers, times, switches, words, addresses, scripts, lists of names.

Every function answers with a ``Value`` for a keyword table. A wrong value is reported with what would be right.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from base.core import NS_PER_MS, NS_PER_S, NS_PER_US
from vrrp.config.keyword import REJECTED, Fields, Reading, Rejected, Value, nearest
from vrrp.config.model.common import IpAddress, ScriptCommand
from vrrp.config.syntax import Statement, Word

MAX_INTERFACE_NAME = 15
BOOLEANS = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
UINT32 = 2**32 - 1


def argument(reading: Reading, statement: Statement, value_syntax: str) -> Word | Rejected:
    """The one word of a keyword that takes one; more words are remarked on, none is an error."""
    if not statement.arguments:
        return reading.error(statement, f"{statement.keyword} has no value", f"write: {statement.keyword} {value_syntax}", "missing-value")
    remark_extra(reading, statement, 1)
    return statement.arguments[0]


def remark_extra(reading: Reading, statement: Statement, count: int) -> None:
    """Remark on words after the ``count`` that have a meaning."""
    if len(statement.arguments) > count:
        word = statement.arguments[count]
        reading.note(word, f"'{word.text}' after {statement.keyword} has no meaning", "remove it", "extra-word")


def parse_integer(text: str) -> int | None:
    """A decimal number with an optional sign, or None; keepalived takes no other base and reads 010 as ten."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if not body.isascii() or not body.isdigit() or len(body) > 20:
        return None
    return -int(body) if text[0] == "-" else int(body)


def parse_decimal(text: str) -> Decimal | None:
    """A plain decimal number such as 2.71828, or None."""
    if not text or len(text) > 40 or any(char not in "0123456789.+-" for char in text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def read_integer(reading: Reading, word: Word, what: str, low: int, high: int) -> int | Rejected:
    """The number in ``word``, reported unless low <= number <= high."""
    number = parse_integer(word.text)
    if number is None:
        return reading.error(word, f"{what} '{word.text}' is no whole number", f"write a number from {low} to {high}")
    if not low <= number <= high:
        return reading.error(word, f"{what} {number} is out of range", f"write a number from {low} to {high}", "out-of-range")
    return number


def integer(low: int, high: int, missing: int | None = None) -> Value:
    """A whole number. ``missing``: what the bare keyword means; None = a value is needed."""
    syntax = f"{low}..{high}" if missing is None else f"[{low}..{high}]"

    def read(reading: Reading, statement: Statement) -> object:
        if missing is not None and not statement.arguments:
            return missing
        word = argument(reading, statement, f"<{low}..{high}>")
        return word if isinstance(word, Rejected) else read_integer(reading, word, statement.keyword, low, high)

    return Value(syntax, read)


def lenient_integer(low: int, high: int, fallback: int) -> Value:
    """A whole number that keepalived corrects to ``fallback`` with a warning where it is below ``low``."""

    def read(reading: Reading, statement: Statement) -> object:
        word = argument(reading, statement, f"<{low}..{high}>")
        if isinstance(word, Rejected):
            return REJECTED
        number = parse_integer(word.text)
        if number is not None and 0 <= number < low:
            reading.warning(
                word, f"{statement.keyword} {number} is taken as {fallback}", f"write a number from {low} to {high}", "out-of-range"
            )
            return fallback
        return read_integer(reading, word, statement.keyword, low, high)

    return Value(f"{low}..{high}", read)


def read_time(reading: Reading, word: Word, what: str, low_ns: int, high_ns: int, unit_ns: int, resolution_ns: int) -> int | Rejected:
    """A decimal number of ``unit_ns`` as nanoseconds, rounded to the resolution."""
    number = parse_decimal(word.text)
    name = "ms" if unit_ns == NS_PER_MS else "seconds"
    span = f"from {_plain(low_ns, unit_ns)} to {_plain(high_ns, unit_ns)} {name}"
    if number is None:
        return reading.error(word, f"{what} '{word.text}' is no time", f"write a number {span}, such as 1 or 0.25")
    exact = number * unit_ns
    if not low_ns <= exact <= high_ns:
        return reading.error(word, f"{what} {word.text} is out of range", f"write a number {span}", "out-of-range")
    rounded = int((exact / resolution_ns).to_integral_value()) * resolution_ns
    return max(rounded, low_ns)


def _plain(value_ns: int, unit_ns: int) -> str:
    return format((Decimal(value_ns) / unit_ns).normalize(), "f")


def seconds(low_ns: int, high_ns: int, resolution_ns: int = NS_PER_US, missing_ns: int | None = None, zero_warns: bool = False) -> Value:
    """A time in seconds with decimals, as ns. ``zero_warns``: keepalived complains about 0 and goes on without."""

    def read(reading: Reading, statement: Statement) -> object:
        if missing_ns is not None and not statement.arguments:
            return missing_ns
        word = argument(reading, statement, "<seconds>")
        if isinstance(word, Rejected):
            return REJECTED
        if zero_warns and parse_decimal(word.text) == 0:
            reading.warning(word, f"{statement.keyword} 0 is ignored", "remove the line: 0 is the default", "out-of-range")
            return REJECTED
        return read_time(reading, word, statement.keyword, low_ns, high_ns, NS_PER_S, resolution_ns)

    span = f"{_plain(low_ns, NS_PER_S)}..{_plain(high_ns, NS_PER_S)} s"
    return Value(span if missing_ns is None else f"[{span}]", read)


def whole_seconds(low: int, high: int) -> Value:
    """A whole number of seconds, as ns; keepalived takes no fraction here."""

    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, statement, "<seconds>")
        number = given if isinstance(given, Rejected) else read_integer(reading, given, statement.keyword, low, high)
        return number if isinstance(number, Rejected) else number * NS_PER_S

    return Value(f"{low}..{high} s", read)


def milliseconds(low_ns: int, high_ns: int) -> Value:
    """A time in ms with decimals, as ns."""

    def read(reading: Reading, statement: Statement) -> object:
        word = argument(reading, statement, "<milliseconds>")
        return word if isinstance(word, Rejected) else read_time(reading, word, statement.keyword, low_ns, high_ns, NS_PER_MS, NS_PER_US)

    return Value(f"{_plain(low_ns, NS_PER_MS)}..{_plain(high_ns, NS_PER_MS)} ms", read)


def flag(value: bool = True) -> Value:
    """A keyword without a value."""

    def read(reading: Reading, statement: Statement) -> object:
        remark_extra(reading, statement, 0)
        return value

    return Value("", read)


def read_boolean(reading: Reading, word: Word, what: str) -> bool | Rejected:
    """on/off, true/false, yes/no."""
    value = BOOLEANS.get(word.text.lower())
    if value is None:
        return reading.error(word, f"{what} '{word.text}' is neither on nor off", "write on, off, true, false, yes or no")
    return value


def switch(required: bool = False, invert: bool = False) -> Value:
    """A boolean; the bare keyword means on. ``invert``: the field holds the opposite."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments and not required:
            return not invert
        word = argument(reading, statement, "on|off")
        value = word if isinstance(word, Rejected) else read_boolean(reading, word, statement.keyword)
        return value if isinstance(value, Rejected) else value != invert

    return Value("on|off" if required else "[on|off]", read)


def word(syntax: str = "NAME", max_length: int = 1024, missing: str | None = None) -> Value:
    """One word (quotes allow blanks). ``missing``: what the bare keyword means; None = a word is needed."""

    def read(reading: Reading, statement: Statement) -> object:
        if missing is not None and not statement.arguments:
            return missing
        given = argument(reading, statement, syntax)
        if isinstance(given, Rejected):
            return REJECTED
        if not given.text:
            return reading.error(given, f"{statement.keyword} is empty", f"write: {statement.keyword} {syntax}", "missing-value")
        if len(given.text) > max_length:
            return reading.error(
                given, f"{statement.keyword} is longer than {max_length} characters", "write a shorter one", "out-of-range"
            )
        return given.text

    return Value(syntax if missing is None else f"[{syntax}]", read)


def words(syntax: str, least: int = 1, most: int = 1_000) -> Value:
    """Several words as a tuple."""

    def read(reading: Reading, statement: Statement) -> object:
        if len(statement.arguments) < least:
            return reading.error(
                statement, f"{statement.keyword} needs {least} or more values", f"write: {statement.keyword} {syntax}", "missing-value"
            )
        remark_extra(reading, statement, most)
        return tuple(given.text for given in statement.arguments[:most])

    return Value(syntax, read)


def lenient_choice(options: Mapping[str, object], fallback: str) -> Value:
    """One of a few words; any other is taken as ``fallback`` with a warning, as by keepalived."""

    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, statement, "|".join(options))
        if isinstance(given, Rejected):
            return REJECTED
        if given.text not in options:
            message = f"{statement.keyword} '{given.text}' is unknown; it is taken as {fallback}"
            reading.warning(given, message, f"write {' or '.join(options)}", "historical")
        return options.get(given.text, options[fallback])

    return Value("|".join(options), read)


def skipped_below(low: int, high: int, missing: int) -> Value:
    """A whole number; one below ``low`` is skipped with a warning, as by keepalived."""
    strict = integer(low, high, missing=missing)

    def read(reading: Reading, statement: Statement) -> object:
        number = parse_integer(statement.arguments[0].text) if statement.arguments else None
        if number is None or number >= low:
            return strict.read(reading, statement)
        reading.warning(
            statement.arguments[0],
            f"{statement.keyword} {number} is skipped",
            f"remove the line, or write a number from {low}",
            "historical",
        )
        return REJECTED

    return Value(strict.syntax, read)


def choice(options: Mapping[str, object], ignore_case: bool = False) -> Value:
    """One of a few words; the field gets the mapped value."""
    syntax = "|".join(options)

    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, statement, syntax)
        if isinstance(given, Rejected):
            return REJECTED
        key = given.text
        if ignore_case:
            key = next((option for option in options if option.lower() == key.lower()), key)
        if key not in options:
            near = nearest(given.text, options)
            remedy = f"did you mean {near}?" if near else f"write {' or '.join(options)}"
            return reading.error(given, f"{statement.keyword} '{given.text}' is unknown", remedy)
        return options[key]

    return Value(syntax, read)


def check_interface(reading: Reading, given: Word) -> str | Rejected:
    """An interface name that the kernel could have; whether it exists is asked by the caller."""
    name = given.text
    if not 0 < len(name.encode("utf-8", "surrogateescape")) <= MAX_INTERFACE_NAME or "/" in name or name in (".", ".."):
        return reading.error(
            given, f"'{name}' cannot be an interface name", f"an interface name has 1 to {MAX_INTERFACE_NAME} characters and no '/'"
        )
    return name


def interface() -> Value:
    """An interface name; existence is checked where it is used."""

    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, statement, "INTERFACE")
        return given if isinstance(given, Rejected) else check_interface(reading, given)

    return Value("INTERFACE", read)


def parse_address(text: str) -> IpAddress | None:
    """An IPv4 or IPv6 address without prefix, or None."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def read_address(reading: Reading, given: Word, what: str, family: int | None = None) -> IpAddress | Rejected:
    """An address, of one family if ``family`` is 4 or 6."""
    value = parse_address(given.text)
    if value is None:
        example = "2001:db8::1" if family == 6 else "192.0.2.1"
        return reading.error(given, f"{what} '{given.text}' is no IP address", f"write one such as {example}")
    if family is not None and value.version != family:
        return reading.error(given, f"{what} {value} is no IPv{family} address", f"write an IPv{family} address", "family")
    return value


def without_length(reading: Reading, given: Word, what: str) -> Word:
    """keepalived takes ``ADDRESS/LENGTH`` where an address is wanted, and forgets the length."""
    text, slash, length = given.text.partition("/")
    number = parse_integer(length)
    if not slash or parse_address(text) is None or number is None or not 0 <= number <= 128:
        return given
    reading.note(given, f"the length of {what} {given.text} has no meaning", f"write: {text}", "extra-word")
    return Word(text, given.position, given.quoted)


def address(family: int | None = None, *, length: bool = False) -> Value:
    """An IP address. ``length``: a prefix length behind it is passed over."""

    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, statement, "ADDRESS")
        if isinstance(given, Rejected):
            return REJECTED
        return read_address(reading, without_length(reading, given, statement.keyword) if length else given, statement.keyword, family)

    return Value("ADDRESS" if family is None else f"IPv{family}-ADDRESS", read)


def multicast_group(family: int | None = None) -> Value:
    """A multicast address."""

    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, statement, "GROUP")
        value = given if isinstance(given, Rejected) else read_address(reading, given, statement.keyword, family)
        if isinstance(value, Rejected) or isinstance(given, Rejected):
            return REJECTED
        if not value.is_multicast:
            good = "ff02::/16" if value.version == 6 else "224.0.0.0/4"
            return reading.error(given, f"{statement.keyword} {value} is no multicast address", f"write an address of {good}")
        return value

    return Value("MULTICAST-ADDRESS", read)


def server(default_port: int, host_field: str, port_field: str) -> Value:
    """``HOST [PORT]``."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return argument(reading, statement, "HOST [PORT]")
        remark_extra(reading, statement, 2)
        port: int | Rejected = default_port
        if len(statement.arguments) > 1:
            port = read_integer(reading, statement.arguments[1], "port", 1, 65_535)
        return REJECTED if isinstance(port, Rejected) else Fields({host_field: statement.arguments[0].text, port_field: port})

    return Value("HOST [PORT]", read)


def split_command(text: str) -> tuple[str, ...]:
    """The words of a quoted command: blanks separate, quotes group (their escapes were already resolved)."""
    out: list[str] = []
    current: list[str] = []
    quote, open_word = "", False
    for char in text:
        if quote:
            if char == quote:
                quote = ""
            else:
                current.append(char)
        elif char in "\"'":
            quote, open_word = char, True
        elif char in " \t\n":
            if current or open_word:
                out.append("".join(current))
            current, open_word = [], False
        else:
            current.append(char)
    if current or open_word:
        out.append("".join(current))
    return tuple(out)


def read_script(reading: Reading, statement: Statement, with_user: bool = True) -> ScriptCommand | Rejected:
    """``COMMAND [USER [GROUP]]``; a command with arguments is quoted."""
    if not statement.arguments:
        return reading.error(
            statement, f"{statement.keyword} has no command", f'write: {statement.keyword} "/path/to/script arguments"', "missing-value"
        )
    given = statement.arguments[0]
    arguments = split_command(given.text)
    if not arguments or not arguments[0]:
        return reading.error(
            given, f"{statement.keyword} has an empty command", f'write: {statement.keyword} "/path/to/script arguments"', "missing-value"
        )
    remark_extra(reading, statement, 3 if with_user else 1)
    user, group = "", ""
    if with_user and len(statement.arguments) > 1:
        user = statement.arguments[1].text
        group = statement.arguments[2].text if len(statement.arguments) > 2 else ""
    return ScriptCommand(arguments, user, group, given.position)


def script() -> Value:
    """A command with an optional user and group."""
    return Value('"COMMAND [ARGUMENTS]" [USER [GROUP]]', read_script)


def command_only() -> Value:
    """A command whose user has a keyword of its own. keepalived drops unquoted arguments in silence: an error here."""

    def read(reading: Reading, statement: Statement) -> object:
        if len(statement.arguments) > 1:
            text = " ".join(given.text for given in statement.arguments)
            message = f"only '{statement.arguments[0].text}' would be run, without its arguments"
            return reading.error(statement.arguments[1], message, f'write: {statement.keyword} "{text}"')
        return read_script(reading, statement)

    return Value('"COMMAND [ARGUMENTS]"', read)


def optional(inner: Value, missing: object) -> Value:
    """``inner``, or ``missing`` for the bare keyword."""

    def read(reading: Reading, statement: Statement) -> object:
        return inner.read(reading, statement) if statement.arguments else missing

    return Value(f"[{inner.syntax}]", read)


def user_and_group(user_field: str, group_field: str) -> Value:
    """``USER [GROUP]``."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return argument(reading, statement, "USER [GROUP]")
        remark_extra(reading, statement, 2)
        group = statement.arguments[1].text if len(statement.arguments) > 1 else ""
        return Fields({user_field: statement.arguments[0].text, group_field: group})

    return Value("USER [GROUP]", read)


def weight(low: int, high: int) -> Value:
    """``N [reverse]``, into the fields weight and reverse."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return argument(reading, statement, f"<{low}..{high}> [reverse]")
        number = read_integer(reading, statement.arguments[0], statement.keyword, low, high)
        reverse = False
        for given in statement.arguments[1:]:
            if given.text not in ("reverse", "noreverse"):
                return reading.error(given, f"'{given.text}' after weight is unknown", "write 'reverse', or remove it")
            reverse = given.text == "reverse"
        return number if isinstance(number, Rejected) else Fields({"weight": number, "reverse": reverse})

    return Value(f"{low}..{high} [reverse]", read)


def block_lines(reading: Reading, statement: Statement) -> tuple[Statement, ...]:
    """The lines of a value block; blocks inside of it are reported."""
    lines: list[Statement] = []
    for line in statement.block or ():
        if line.block is not None:
            reading.error(line, f"'{line.keyword}' in {statement.keyword} takes no block", "remove the braces", "brace")
        else:
            lines.append(line)
    return tuple(lines)


def _refuse_words_before_block(reading: Reading, statement: Statement) -> None:
    """Words between the keyword and its ``{`` mean nothing; keepalived complains and goes on."""
    if statement.arguments:
        given = statement.arguments[0]
        reading.warning(
            given, f"'{given.text}' between {statement.keyword} and its '{{' has no meaning", "remove it, or move it into the block"
        )


def line_list(syntax: str, read_line: Callable[[Reading, Statement], object]) -> Value:
    """A block whose lines are values of one kind: a tuple of what ``read_line`` answers."""

    def read(reading: Reading, statement: Statement) -> object:
        _refuse_words_before_block(reading, statement)
        values = []
        for line in block_lines(reading, statement):
            reading.via = line.via
            values.append(read_line(reading, line))
        return tuple(value for value in values if value is not REJECTED)

    return Value(f"{{ {syntax} … }}", read, takes_block=True)


def name_list(syntax: str) -> Value:
    """A block of names, one or several in a line, as a tuple of Words (their positions are needed later)."""

    def read(reading: Reading, statement: Statement) -> object:
        _refuse_words_before_block(reading, statement)
        return tuple(given for line in block_lines(reading, statement) for given in line.words)

    return Value(f"{{ {syntax} … }}", read, takes_block=True)


def text_list(syntax: str) -> Value:
    """A block of names, one or several in a line, as a tuple of str."""

    def read(reading: Reading, statement: Statement) -> object:
        _refuse_words_before_block(reading, statement)
        return tuple(given.text for line in block_lines(reading, statement) for given in line.words)

    return Value(f"{{ {syntax} … }}", read, takes_block=True)
