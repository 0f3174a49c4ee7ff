"""Numbers, shapes and names for people."""

from collections.abc import Iterable, Sequence, Sized

from visavis.app.inspecting.records import Row

__all__ = ["amount", "count", "field_text", "marks_text", "memory", "names_text", "shape_text"]

NAMED = 3  # layers that a finding names; JSON has all


def count(things: Sized, one: str, many: str = "") -> str:
    """How many there are, and what: one or several.

    >>> count([1, 2], "bias", "biases"), count([1], "attention")
    ('2 biases', '1 attention')
    """
    return f"{len(things)} {one if len(things) == 1 else many or one + 's'}"


def names_text(names: Iterable[str]) -> str:
    """The first few, each once, and how many more.

    >>> names_text(["a", "b", "a", "c", "d", ""])
    'a, b, c and 2 more'
    """
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(name or "the network" for name in names[:NAMED]) + more


def amount(number: float) -> str:
    """A count for people.

    >>> amount(25_557_032), amount(8.178e9), amount(999), amount(0)
    ('25.6 M', '8.18 G', '999', '0')
    """
    for unit, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}" if number < 1000 * unit else f"{number / unit:.0f}{letter}"
    return f"{number:.0f}"


def shape_text(shape: Sequence[int]) -> str:
    """A shape for people.

    >>> shape_text((3, 224, 224))
    '3x224x224'
    """
    return "x".join(map(str, shape))


def field_text(field: Sequence[int | None]) -> str:
    """A receptive field for people, its axes once where they are alike.

    >>> field_text((427, 427)), field_text((5, None)), field_text((None, None)), field_text(())
    ('427', '5 x all', 'all', '-')
    """
    sizes = ["all" if size is None else str(size) for size in field]
    return " x ".join(sizes if len(set(sizes)) > 1 else sizes[:1]) or "-"


def marks_text(row: Row) -> str:
    """The marks of a module: how many modules inside it, if it is not one layer."""
    return ", ".join(mark if row.leaf else f"{count} {mark}" for mark, count in row.marks.items())


def memory(number: int | None) -> str:
    """Bytes for people, in the decimal units of `doctor`.

    >>> memory(12_345_678), memory(512), memory(None)
    ('12.3 MB', '512 B', '-')
    """
    if number is None:
        return "-"
    return f"{amount(number)}B" if number >= 1000 else f"{number} B"
