"""What all replies are made of: strings, numbers, words, groups and tables, read from left to right, each once.

value  = string | number | word | group | table
group  = opener [value {[","] value}] closer        (a comma may be missing only beside numbers and groups)
table  = "{" [string ":" value {"," string ":" value}] "}"
"""

from dataclasses import dataclass

from visavis.errors import ReplyError

__all__ = ["CLOSERS", "Group", "Node", "Number", "Reader", "Table", "Text", "Word"]

CLOSERS = {
    "(": ")",
    "[": "]",
    "<point>": "</point>",
    "<bbox>": "</bbox>",
    "<box>": "</box>",
    "<|box_start|>": "<|box_end|>",
    "<|point_start|>": "<|point_end|>",
}
DEEPEST = 10  # a group in a group in ...
LONGEST_NUMBER = 40  # characters

# Python's, without its rarer ones: the \b of C:\bin is the beginning of a folder's name.
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
JSON_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "/": "/", "b": "\b", "f": "\f"}
HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}  # how many digits follow
DIGITS = frozenset("0123456789")
HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class Text:
    """What stood between quotes."""

    at: int  # where in the reply; so below
    value: str


@dataclass(frozen=True, slots=True)
class Number:
    """As it was written, which `fractions.Fraction` reads."""

    at: int
    literal: str


@dataclass(frozen=True, slots=True)
class Word:
    """A name without quotes."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Group:
    """What stood between brackets or marks."""

    at: int
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Table:
    """An object of JSON."""

    at: int
    fields: dict[str, "Node"]


Node = Text | Number | Word | Group | Table


class Reader:
    """A reply, and how far it has been read."""

    def __init__(
        self,
        reply: str,
        *,
        json: bool = False,
        inside: tuple["Reader", int] | None = None,
        wanted: str = "a value: a text in quotes, a number or a point",
    ) -> None:
        """At its beginning.

        Args:
            reply: text to read.
            json: strings are JSON's, else Python's.
            inside: of the text that this one is a string in: its reader, and the string's place there.
            wanted: what every value should be, for the errors.
        """
        self.reply, self.at, self.json, self.inside, self.wanted = reply, 0, json, inside, wanted
        if inside is None and _has_half(reply):
            raise ReplyError("the reply holds half of a character (a lone surrogate)", reply)

    def error(self, message: str, at: int | None = None) -> ReplyError:
        """What refuses the reply, in a sentence that says where and why."""
        if self.inside is not None:
            outer, place = self.inside
            return outer.error(message, place)
        at = min(self.at if at is None else at, len(self.reply))
        line, column = self.reply.count("\n", 0, at) + 1, at - self.reply.rfind("\n", 0, at)
        excerpt = self.reply[at : at + 30].split("\n")[0]
        found = f"at {excerpt!r}" if excerpt else "at the end" if at == len(self.reply) else "at the end of the line"
        return ReplyError(f"line {line}, column {column}, {found}: {message}", self.reply)

    def done(self) -> bool:
        return self.at >= len(self.reply)

    def peek(self) -> str:
        """The next character; none at the end."""
        return self.reply[self.at : self.at + 1]

    def space(self) -> None:
        """Pass over white space."""
        reply, at, end = self.reply, self.at, len(self.reply)
        while at < end and reply[at].isspace():
            at += 1
        self.at = at

    def blanks(self) -> None:
        """Pass over spaces and tabs."""
        while self.peek() in (" ", "\t"):
            self.at += 1

    def skip(self, token: str) -> bool:
        """Pass over `token` if it comes next."""
        if self.reply.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def name(self) -> str:
        """Pass over a name: letters of ASCII, digits and underscores; empty if none comes next."""
        reply, at, end = self.reply, self.at, len(self.reply)
        while at < end and reply[at].isascii() and (reply[at].isalnum() or reply[at] == "_"):
            at += 1
        name = reply[self.at : at]
        self.at = at
        return name

    def value(self, depth: int = 0) -> Node:
        """Whatever comes next."""
        self.space()
        at, character = self.at, self.peek()
        if character == '"' or (character == "'" and not self.json):
            return self.string()
        if character in DIGITS or character in ("+", "-"):
            return self.number()
        if character == "{":
            return self.table(depth)
        for opener, closer in CLOSERS.items():
            if self.skip(opener):
                return Group(at, self.parts(closer, depth + 1))
        if name := self.name():
            return Word(at, name)
        raise self.error(f"expected {self.wanted}")

    def parts(self, closer: str, depth: int = 0) -> tuple[Node, ...]:
        """Values up to `closer`, or to the end of the text if that is empty."""
        if depth > DEEPEST:
            raise self.error(f"nested more than {DEEPEST} deep")
        parts: list[Node] = []
        self.space()
        while not (self.done() if not closer else self.skip(closer)):
            comma = bool(parts) and self.skip(",")
            if self.done():
                raise self.error(
                    f"the reply ends before the closing {closer}" if closer else "expected a value after the comma"
                )
            part = self.value(depth)
            if parts and not comma and not all(isinstance(beside, Number | Group) for beside in (parts[-1], part)):
                raise self.error(f"expected a comma or the closing {closer or 'end'}", part.at)
            parts.append(part)
            self.space()
        return tuple(parts)

    def table(self, depth: int) -> Table:
        at, fields = self.at, dict[str, Node]()
        if depth >= DEEPEST:
            raise self.error(f"nested more than {DEEPEST} deep")
        self.skip("{")
        self.space()
        while not self.skip("}"):
            if fields and not self.skip(","):
                raise self.error("expected a comma or the closing }")
            self.space()
            if self.peek() != '"' and (self.json or self.peek() != "'"):
                raise self.error("expected the name of a field in quotes, or the closing }")
            name = self.string()
            self.space()
            if not self.skip(":"):
                raise self.error(f"expected a colon after {name.value[:30]!r}")
            if name.value in fields:
                raise self.error(f"{name.value[:30]!r} is given twice", name.at)
            fields[name.value] = self.value(depth + 1)
            self.space()
        return Table(at, fields)

    def number(self) -> Number:
        """Whole or decimal; a unit or anything else right after it is refused."""
        at = self.at
        if self.peek() in ("+", "-"):
            self.at += 1
        self._digits()
        if self.skip("."):
            self._digits()
        if self.skip("e") or self.skip("E"):
            most = 3 if self.peek() == "-" else 2  # digits: enough for a float's `repr`, and no number is out of range
            if self.peek() in ("+", "-"):
                self.at += 1
            exponent = self.at
            self._digits()
            if self.at - exponent > most:
                raise self.error("expected a plain number such as 12 or 12.5", at)
        literal = self.reply[at : self.at]
        if len(literal) > LONGEST_NUMBER or self.peek() == "_" or self.peek().isalnum():
            raise self.error("expected a plain number such as 12 or 12.5", at)
        return Number(at, literal)

    def _digits(self) -> None:
        start = self.at
        while self.peek() in DIGITS:
            self.at += 1
        if self.at == start:
            raise self.error("expected a digit")

    def string(self) -> Text:
        """From quote to quote, escapes resolved; line ends may stand in it as they are.

        In Python's, an apostrophe between two letters or digits is one, even within single quotes.
        """
        at = self.at
        quote = self.reply[at]
        if not self.json and self.reply.startswith(quote * 3, at):
            quote *= 3
        self.at = run = at + len(quote)  # `run`: from where on nothing is in `pieces` yet
        pieces: list[str] = []
        end = -1
        while True:
            if end < self.at:
                end = self.reply.find(quote, self.at)
                if end < 0:
                    raise self.error(f"the text that begins here has no closing {quote}", at)
            slash = self.reply.find("\\", self.at, end)
            if slash >= 0:
                pieces.append(self.reply[run:slash])
                self.at = slash
                pieces.append(self._escape())
                run = self.at
            elif quote == "'" and run < end and self._between_letters(end):
                self.at = end + 1
            else:
                pieces.append(self.reply[run:end])
                self.at = end + len(quote)
                break
        value = "".join(pieces)
        if "\\" in self.reply[at : self.at]:  # two escapes may be the halves of one character
            value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
            if _has_half(value):
                raise self.error("an escape in this text is half of a character (a lone surrogate)", at)
        return Text(at, value)

    def _between_letters(self, at: int) -> bool:
        return self.reply[at - 1].isalnum() and self.reply[at + 1 : at + 2].isalnum()

    def _escape(self) -> str:
        """What the escape at this place stands for, which is passed over.

        An unknown one stands for itself, as in Python, but for JSON's, where it is refused.
        """
        at = self.at
        letter = self.reply[at + 1 : at + 2]
        known = (JSON_ESCAPES if self.json else ESCAPES).get(letter)
        if known is not None:
            self.at += 2
            return known
        digits = HEX_ESCAPES.get(letter, 0) if letter == "u" or not self.json else 0
        code = self.reply[at + 2 : at + 2 + digits]
        if digits and len(code) == digits and HEX_DIGITS.issuperset(code) and int(code, 16) <= 0x10FFFF:
            self.at += 2 + digits
            return chr(int(code, 16))
        if self.json:
            raise self.error("no escape of JSON; write a backslash as \\\\")
        self.at += 1
        return "\\"


def _has_half(text: str) -> bool:
    """Whether a lone surrogate is in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
