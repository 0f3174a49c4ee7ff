"""Replies of JSON: an object with a thought and tool calls, or the calls alone, as models and servers write them.

reply = ["<think>" any "</think>"] [prose] [fence] item {item} [fence] {token}
item  = ["<tool_call>"] value ["</tool_call>"]        (JSON; its first one begins a line)
value = {"thought": text, "actions": [call ...]} | [call ...] | call
call  = {"name": text, "arguments": {...}} | {"function": call} | {"action": text, ...}
"""

from visavis.gui.actions._calls import FENCE, read_head, read_tail, without_label
from visavis.gui.actions._grammar import Group, Node, Reader, Table, Text, Word
from visavis.gui.actions._verbs import Call

__all__ = ["read"]

OPEN, CLOSE = "<tool_call>", "</tool_call>"
ARGUMENTS = ("arguments", "parameters", "input")
INNER = ("actions", "tool_calls", "action", "function")  # fields that hold calls
DECORATION = frozenset({"id", "type", "index"})  # of a call, from servers
EXAMPLE = '{"thought": "...", "actions": [{"name": "wait", "arguments": {}}]}'


def read(reply: str) -> tuple[str, Reader, list[Call]]:
    """The thought, and the calls with the reader that can tell where they stand.

    Raises:
        ReplyError: there is no call, or something else where one should be.
    """
    reader = Reader(reply, json=True)
    thoughts = [read_head(reader)]
    begin = reader.at
    end = _find_json(reader)
    thoughts.append(without_label(reply[begin:end]))
    calls: list[Call] = []
    while not read_tail(reader):
        _read_item(reader, thoughts, calls)
        reader.space()
        reader.skip(",")
    if not calls:
        raise reader.error(f"the reply has no action; write {EXAMPLE}")
    return "\n".join(thought for thought in thoughts if thought), reader, calls


def _find_json(reader: Reader) -> int:
    """Go to the first line that begins JSON, in a fence or not; where the prose before it ends."""
    line = reader.at
    while True:
        reader.at = line
        reader.blanks()
        if reader.skip(FENCE):
            reader.name()
            reader.space()
        if reader.peek() in ("{", "[") or reader.reply.startswith(OPEN, reader.at):
            return line
        line = reader.reply.find("\n", line) + 1
        if line == 0:
            reader.at = len(reader.reply)
            raise reader.error(f"the reply has no line that begins JSON; write {EXAMPLE}")


def _read_item(reader: Reader, thoughts: list[str], calls: list[Call]) -> None:
    wrapped = reader.skip(OPEN)
    reader.space()
    if reader.peek() not in ("{", "["):
        raise reader.error("expected a JSON object or the end of the reply; nothing follows the last action")
    _collect(reader, reader.value(), thoughts, calls)
    reader.space()
    if wrapped and not reader.skip(CLOSE):
        raise reader.error(f"expected {CLOSE}")


def _collect(reader: Reader, node: Node, thoughts: list[str], calls: list[Call]) -> None:
    """Take the thoughts and calls out of what was read."""
    if isinstance(node, Group):
        for part in node.parts:
            _collect(reader, part, thoughts, calls)
        return
    if not isinstance(node, Table):
        raise reader.error('expected a tool call such as {"name": "wait", "arguments": {}}', node.at)
    fields = dict(node.fields)
    thought = fields.pop("thought", None)
    if thought is not None:
        if not isinstance(thought, Text):
            raise reader.error("expected thought to be a text", thought.at)
        thoughts.append(thought.value)
    inner = [name for name in INNER if isinstance(fields.get(name), Group | Table)]
    if inner:
        found = fields.pop(inner[0])
        _nothing_else(reader, fields, inner[0])
        _collect(reader, found, thoughts, calls)
    else:
        calls.append(_call(reader, node.at, fields))


def _nothing_else(reader: Reader, fields: dict[str, Node], beside: str) -> None:
    for name, node in fields.items():
        if name not in DECORATION:
            raise reader.error(f"expected no field {name[:30]!r} beside {beside!r}", node.at)


def _call(reader: Reader, at: int, fields: dict[str, Node]) -> Call:
    key = "action" if "action" in fields else "name"  # {"action": "open_app", "name": ...} has both
    name = fields.pop(key, None)
    if not isinstance(name, Text):
        raise reader.error('expected "name" to be the name of an action', name.at if name else at)
    given = [name for name in ARGUMENTS if name in fields]
    if given:
        arguments = fields.pop(given[0])
        _nothing_else(reader, fields, given[0])
        fields = _table(reader, arguments)
    elif key == "name":
        _nothing_else(reader, fields, "name")
        fields = {}
    return Call(at, name.value, (), {name: node for name, node in fields.items() if not _is_null(node)})


def _table(reader: Reader, node: Node) -> dict[str, Node]:
    """Arguments, which some servers write as a text of JSON."""
    if isinstance(node, Text):
        inner = Reader(node.value, json=True, inside=(reader, node.at))
        node = inner.value()
        inner.space()
        if not inner.done():
            raise inner.error("expected nothing after the arguments")
    if not isinstance(node, Table):
        raise reader.error("expected the arguments to be a JSON object", node.at)
    return node.fields


def _is_null(node: Node) -> bool:
    return isinstance(node, Word) and node.name == "null"
