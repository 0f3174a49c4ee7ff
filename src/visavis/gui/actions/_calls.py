"""Replies of a thought and calls: `Thought: ...`, then `Action: click(point='<point>1 2</point>')`.

reply    = ["<think>" any "</think>"] [fence] [thought] mark calls [fence] {token}
mark     = "Action" (":" | "：") where a line begins and a call follows
calls    = call {gap call}                                (gap: white space, ";", another mark, a comment)
call     = name "(" [argument {"," argument} [","]] ")"
argument = [name "="] value

The first mark ends the thought. A line of the thought that looks like one is written with a backslash before it, and
read without. A reply without a mark is calls alone if it begins with one; else its first "Action:" in a line counts.
"""

from collections.abc import Callable, Iterator

from visavis.gui.actions._grammar import Node, Reader
from visavis.gui.actions._verbs import Call, is_known

__all__ = ["quote", "quote_thought", "read", "read_head", "read_tail", "without_label"]

COLONS = (":", "：")
FENCE = "```"
TOKENS = ("[EOS]", "<|im_end|>", "<|endoftext|>", "</s>")  # with which models and servers may end a reply
ADVICE = r"a quote inside of a text is written \', and nothing follows the last action"


def read(reply: str) -> tuple[str, Reader, list[Call]]:
    """The thought, and the calls with the reader that can tell where they stand.

    Raises:
        ReplyError: there is no call, or something else where one should be.
    """
    reader = Reader(reply)
    reasoning = read_head(reader)
    begin = reader.at
    end = _find_calls(reader)
    thought = _map_lines(without_label(reply[begin:end]), lambda line, at: line[:at] + line[at + 1 :], least=1)
    calls = list(_calls(reader))
    return "\n".join(part for part in (reasoning, thought) if part), reader, calls


def read_head(reader: Reader) -> str:
    """Pass over what may come before a reply; the reasoning in it."""
    reader.space()
    reasoning = ""
    if reader.skip("<think>"):
        end = reader.reply.find("</think>", reader.at)
        if end < 0:
            raise reader.error("<think> is never closed by </think>", reader.at - len("<think>"))
        reasoning = reader.reply[reader.at : end].strip()
        reader.at = end + len("</think>")
        reader.space()
    _skip_fence(reader)
    return reasoning


def read_tail(reader: Reader) -> bool:
    """Pass over what may come after a reply; whether this is its end."""
    reader.space()
    closed = False
    while any(reader.skip(token) for token in (FENCE, *TOKENS)):
        closed = True
        reader.space()
    if closed and not reader.done():
        raise reader.error("expected nothing after the end of the reply")
    return reader.done()


def without_label(thought: str) -> str:
    """A thought without `Thought:` and white space around it."""
    reader = Reader(thought.strip())
    return reader.reply[reader.at :].strip() if _skip_label(reader, "thought") else reader.reply


def quote_thought(thought: str) -> str:
    """A thought in which no line looks like the mark of the actions."""
    return _map_lines(thought.strip(), lambda line, at: f"{line[:at]}\\{line[at:]}", least=0)


def quote(text: str) -> str:
    """A text between single quotes, so that `Reader.string` reads it back."""
    for plain, escape in (("\\", r"\\"), ("'", r"\'"), ("\n", r"\n"), ("\r", r"\r")):
        text = text.replace(plain, escape)
    return f"'{text}'"


def _map_lines(text: str, change: Callable[[str, int], str], *, least: int) -> str:
    """The text, with its lines changed that are a mark after white space and at least so many backslashes."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        reader = Reader(line)
        reader.blanks()
        at = reader.at
        while reader.skip("\\"):
            pass
        if reader.at - at >= least and _skip_label(reader, "action"):
            lines[number] = change(line, at)
    return "\n".join(lines)


def _skip_label(reader: Reader, word: str) -> bool:
    """Pass over a word and a colon, if they come next; letters of either case."""
    at = reader.at
    if reader.reply[at : at + len(word)].lower() == word:
        reader.at += len(word)
        reader.blanks()
        if any(reader.skip(colon) for colon in COLONS):
            return True
    reader.at = at
    return False


def _skip_fence(reader: Reader) -> None:
    """Pass over the line that opens a fence, if it comes next, and white space after it."""
    if reader.skip(FENCE):
        reader.name()
        reader.space()


def _at_call(reader: Reader, *, known: bool) -> bool:
    """Go to the call that comes next after white space and a fence, if one does; `known`: only to one of ours."""
    before = reader.at
    reader.space()
    _skip_fence(reader)
    at = reader.at
    name = reader.name()
    reader.blanks()
    found = bool(name) and reader.peek() == "(" and (is_known(name) or not known)
    reader.at = at if found else before
    return found


def _find_calls(reader: Reader) -> int:
    """Go to the first call; where the thought before it ends."""
    begin = reader.at
    lone = -1  # a mark that no call follows
    line = begin
    while True:
        reader.at = line
        reader.blanks()
        at = reader.at
        if _skip_label(reader, "action"):
            if _at_call(reader, known=False):
                return at
            lone = reader.at if lone < 0 else lone
        line = reader.reply.find("\n", line) + 1
        if line == 0:
            break
    reader.at = begin
    if _at_call(reader, known=True):
        return begin
    at = reader.reply.find("Action", begin)
    while at >= 0:
        reader.at = at
        if _skip_label(reader, "action"):
            if _at_call(reader, known=True):
                return at
            lone = reader.at if lone < 0 else lone
        at = reader.reply.find("Action", at + 1)
    if lone >= 0:
        reader.at = lone
        reader.space()
        raise reader.error("expected an action after 'Action:', such as wait()")
    reader.at = len(reader.reply)
    raise reader.error(
        "the reply has no action; end it with a line that begins with 'Action: ', such as 'Action: wait()'"
    )


def _calls(reader: Reader) -> Iterator[Call]:
    while True:
        yield _call(reader)
        after = reader.at
        _gap(reader)
        if read_tail(reader):
            return
        if reader.at == after:
            raise reader.error(f"expected the end of the line after an action; {ADVICE}")


def _gap(reader: Reader) -> None:
    while True:
        before = reader.at
        reader.space()
        reader.skip(";")
        _skip_label(reader, "action")
        if reader.peek() == "#":
            end = reader.reply.find("\n", reader.at)
            comment = reader.reply[reader.at : end if end >= 0 else len(reader.reply)]
            if "'" in comment or '"' in comment:  # it may well be the rest of a text
                raise reader.error(f"expected the next action or the end of the reply; {ADVICE}")
            reader.at += len(comment)
        if reader.at == before:
            return


def _call(reader: Reader) -> Call:
    at = reader.at
    name = reader.name()
    if not name:
        raise reader.error(f"expected an action such as wait(); {ADVICE}")
    reader.blanks()
    if not reader.skip("("):
        raise reader.error(f"expected an action and its arguments in parentheses, got {name[:30]!r}; {ADVICE}", at)
    positional: list[Node] = []
    named: dict[str, Node] = {}
    reader.space()
    while not reader.skip(")"):
        if reader.done():
            raise reader.error(f"the reply ends before the closing parenthesis of {name[:30]}")
        if (positional or named) and not reader.skip(","):
            raise reader.error(f"expected a comma or the closing parenthesis of {name[:30]}; {ADVICE}")
        reader.space()
        if reader.skip(")"):
            break
        start = reader.at
        key = reader.name()
        reader.space()
        if key and reader.skip("="):
            if key in named:
                raise reader.error(f"{key[:30]} is given twice", start)
            named[key] = reader.value()
        else:
            reader.at = start
            if named:
                raise reader.error("expected the name of an argument and '='")
            positional.append(reader.value())
        reader.space()
    return Call(at, name, tuple(positional), named)
