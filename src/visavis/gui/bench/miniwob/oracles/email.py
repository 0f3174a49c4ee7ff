"""The inbox: mark an email as important, delete it, reply to it, forward it."""

import re
from dataclasses import dataclass

from visavis.gui.actions import Action
from visavis.gui.bench.miniwob.oracles.page import Page, fill, press, reach

__all__ = ["ORACLES"]


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be done with the email of a sender."""

    verb: str  # star, trash, reply or forward
    sender: str
    text: str = ""  # of a reply, or whom to forward to


def _said(page: Page) -> _Order:
    """Read an instruction that has one form for each verb."""
    sender, rest = page.said(r"^Find the email by (\S+) and (.+)$")
    patterns = {"reply": r'with the text "(.+)"', "forward": r"to (\S+)\.$"}
    for verb, pattern in patterns.items():
        if rest.startswith(verb):
            return _Order(verb, sender, page.said(pattern)[0])
    return _Order("trash" if "trash" in rest else "star", sender)


# Instructions of people who took one name for the other: the task wants the email of the second.
_SWAPPED = (r"^Find yesterday's emails from", r"^Forward \w+'s email from yesterday", r"^Forward all messages from")
_DELETES = r"(?i)delete|trash|get rid|remove|recycling|throw away|don't want|out of my inbox"


def _understood(page: Page) -> _Order:
    """Read an instruction in the words of many people."""
    said = page.instruction
    senders = {element.content for element in page.one(id="main").all(cls="email-sender")}
    either = "|".join(sorted(senders, key=len, reverse=True))
    names = re.findall(rf"\b({either})(?=s?\b)", said)
    if '"' in said:
        # a name may be a word of the reply too, or stand right behind another word
        outside = re.sub(r'".+"', "", said)
        named = [name for name in senders if re.search(rf"{name}s?\b", outside)]
        return _Order("reply", max(named, key=len), page.said(r'"+([^"]+)"')[0])
    if len(set(names)) == 2:
        sender, recipient = _roles(said, *dict.fromkeys(names))
        return _Order("forward", sender, recipient)
    if re.search(r"(?i)forward|send|give", said):
        return _Order("forward", names[0], names[0])
    return _Order("trash" if re.search(_DELETES, said) else "star", names[0])


def _roles(said: str, first: str, second: str) -> tuple[str, str]:
    """Whose email goes to whom."""
    either = f"({first}|{second})"
    other = {first: second, second: first}
    recipient = re.search(rf"\bto {either}\b", said) or re.search(
        rf"(?i:forward|send|give|email) {either}\b(?!'s| sent)", said
    )
    if recipient:
        found = other[recipient[1]], recipient[1]
    else:
        sender = re.search(rf"\b(?:from|by|email) {either}\b", said) or re.search(rf"\b{either}'s e-?mail", said)
        name = sender[1] if sender else first
        found = name, other[name]
    swapped = any(re.search(pattern, said) for pattern in _SWAPPED) or re.search(r"^Send \w+ the message from", said)
    return found[::-1] if swapped else found


def _step(page: Page, order: _Order) -> Action:
    for reply in page.all(id="reply"):
        if order.verb != "reply" or reply.one(cls="reply-sender").content != order.sender:
            return press(reply.one(id="close-reply"))
        return fill(reply.one("textarea"), order.text) or press(reply.one(id="send-reply"))
    for forward in page.all(id="forward"):
        if order.verb != "forward":
            return press(forward.one(id="close-forward"))
        return fill(forward.one(cls="forward-sender"), order.text) or press(forward.one(id="send-forward"))
    for email in page.all(id="email"):
        if email.one(cls="email-sender").content != order.sender:
            return reach(email.one(id="close-email"), email)
        return reach(email.one(cls=f"email-{order.verb}" if order.verb in ("reply", "forward") else order.verb), email)
    if page.one(id="search").shown:
        return press(page.one(id="search-cancel"))
    inbox = page.one(id="main")
    for thread in inbox.all(cls="email-thread"):
        if thread.one(cls="email-sender").content == order.sender:
            break
    return reach(thread.one(cls="email-subject" if order.verb in ("reply", "forward") else order.verb), inbox)


def _inbox(page: Page) -> Action:
    return _step(page, _said(page))


def _inbox_in_own_words(page: Page) -> Action:
    return _step(page, _understood(page))


ORACLES = {
    "email-inbox": _inbox,
    "email-inbox-delete": _inbox,
    "email-inbox-forward": _inbox,
    "email-inbox-forward-nl": _inbox_in_own_words,
    "email-inbox-forward-nl-turk": _inbox_in_own_words,
    "email-inbox-important": _inbox,
    "email-inbox-nl-turk": _inbox_in_own_words,
    "email-inbox-noscroll": _inbox,
    "email-inbox-reply": _inbox,
    "email-inbox-star-reply": _inbox,
}
