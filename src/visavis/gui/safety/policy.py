"""The policy: actions pass it before they are performed, screenshots before they are seen, texts before they stay."""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args
from urllib.parse import quote, quote_plus

from visavis.errors import InputError
from visavis.gui.actions import (
    Action,
    Back,
    CallUser,
    Click,
    Drag,
    Finished,
    Home,
    Hotkey,
    LongPress,
    Navigate,
    Press,
    Release,
    Type,
    Wait,
)
from visavis.gui.origins import check_pattern, matches, origin
from visavis.gui.safety.consequences import consequence
from visavis.gui.screen import Screenshot

__all__ = ["Answer", "Judgement", "Policy", "Secret"]

Answer = Literal["allow", "ask", "refuse"]
STRICTNESS: tuple[Answer, ...] = ("allow", "ask", "refuse")
PLACEHOLDER = re.compile(r"\{\{secret:([^{}]*)\}\}")
NAME = re.compile(r"[A-Za-z0-9_-]+")
JUDGED = frozenset(get_args(Action)) - {Wait, Finished, CallUser}
SHORTEST_SECRET = 3  # a shorter one is in every second text, and hiding it would tell more than it hides


@dataclass(frozen=True, slots=True)
class Secret:
    """A text to be typed that no model, trace or log may see."""

    value: str = field(repr=False)
    origins: tuple[
        str, ...
    ]  # where it may be typed, as `origins.matches` has them; "*": also where no address is known


@dataclass(frozen=True, slots=True)
class Judgement:
    answer: Answer
    reason: str = ""  # a sentence for the model, and for the one who is asked


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be done.

    Args:
        origins: where a browser may be and go, in the form of `origins.matches`; None: anywhere. Off these the agent
            may only wait, go back, or open an address on them. A screen without addresses is nowhere.
        kinds: answers for kinds of action, as `{OpenApp: "refuse", Navigate: "ask"}`; "allow" for all others. Not for
            `Wait`, `Finished` and `CallUser`, which no screen performs.
        consequential: the answer for a click, a key or what is typed as one when the model's own words say that it
            buys, pays, deletes or sends.
        secrets: by name; the model types "{{secret:NAME}}", and the value stands in its place only on its way to the
            screen.
        masks: boxes (left, top, right, bottom) in pixels of the screenshot that are black to model, trace and memory.
        dry_run: nothing is performed, and all is recorded.

    Raises:
        InputError: an origin, a name or a box that makes no sense, or a secret of less than three characters.
    """

    origins: tuple[str, ...] | None = None
    kinds: Mapping[type[Any], Answer] = field(default_factory=dict)
    consequential: Answer = "ask"
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    masks: tuple[tuple[int, int, int, int], ...] = ()
    dry_run: bool = False

    def __post_init__(self) -> None:
        for pattern in self.origins or ():
            check_pattern("origins", pattern)
        for kind in self.kinds:
            if kind not in JUDGED:
                raise InputError(f"kinds: expected actions of a screen, got {kind!r}")
        for answer in (*self.kinds.values(), self.consequential):
            if answer not in STRICTNESS:
                raise InputError(f'kinds, consequential: expected "allow", "ask" or "refuse", got {answer!r}')
        for name, secret in self.secrets.items():
            if not NAME.fullmatch(name):
                raise InputError(f"secrets: expected names of letters, digits, _ and -, got {name!r}")
            if len(secret.value) < SHORTEST_SECRET:
                raise InputError(
                    f"secrets: expected at least {SHORTEST_SECRET} characters in {name}, got {len(secret.value)}: "
                    "so short a text cannot be hidden wherever it comes up"
                )
            for pattern in secret.origins:
                check_pattern(f"origins of the secret {name}", pattern)
        for left, top, right, bottom in self.masks:
            if not (0 <= left < right and 0 <= top < bottom):
                raise InputError(f"masks: expected boxes (left, top, right, bottom), got {(left, top, right, bottom)}")

    def judge(self, action: Action, *, thought: str = "", url: str | None = None) -> Judgement:
        """Whether an action may be performed.

        Args:
            action: as the model gave it, with placeholders for secrets.
            thought: what the model says about it.
            url: where the browser is now.
        """
        if reason := self._off_limits(action, url) or self._misuse_of_secrets(action, url):
            return Judgement("refuse", reason)
        judgement = Judgement("allow")
        kind = self.kinds.get(type(action), "allow")
        if kind != "allow":
            verb = "must be confirmed" if kind == "ask" else "is not allowed"
            judgement = Judgement(kind, f"the action {type(action).__name__} {verb} here")
        found = consequence(thought) if _triggers(self._typed(action)) else None
        if found and STRICTNESS.index(self.consequential) > STRICTNESS.index(judgement.answer):
            return Judgement(
                self.consequential, f'by its words ("{found[1]}") this may {found[0]}, which cannot be taken back'
            )
        return judgement

    def reveal(self, action: Action, *, url: str | None) -> Action:
        """The action as the screen gets it: placeholders of secrets replaced by their values.

        Raises:
            InputError: `judge` refuses the secret here.
        """
        if reason := self._misuse_of_secrets(action, url):
            raise InputError(f"action: expected secrets where they may be typed, got another: {reason}")
        return self._typed(action)

    def holds_secret(self, action: Action) -> bool:
        """Whether an action has a placeholder in it."""
        return any(PLACEHOLDER.search(text) for text in _texts(action).values())

    def hide(self, text: str) -> str:
        """Put placeholders where the values of secrets are, plain or as URLs, JSON, HTML and Python write them."""
        if not self.secrets:
            return text
        hidden = self._hidden()
        pattern = "|".join((PLACEHOLDER.pattern, *map(re.escape, hidden)))
        return re.sub(pattern, lambda found: hidden.get(found[0], found[0]), text)

    def hide_in(self, action: Action) -> Action:
        """The same in the texts of an action: a model may have read a secret off the screen."""
        hidden = {name: self.hide(text) for name, text in _texts(action).items()}
        changes: Any = hidden  # the fields of this very action
        return replace(action, **changes) if hidden != _texts(action) else action

    def mask(self, screenshot: Screenshot) -> Screenshot:
        """The screenshot with the masked boxes black."""
        if not self.masks:
            return screenshot
        pixels = screenshot.pixels.copy()
        for left, top, right, bottom in self.masks:
            pixels[top:bottom, left:right] = 0
        return replace(screenshot, pixels=pixels)

    def told(self, instruction: str) -> str:
        """The instruction, without the secrets that may be in it, and which there are, for the model."""
        if not self.secrets:
            return instruction
        names = ", ".join(f"{{{{secret:{name}}}}}" for name in sorted(self.secrets))
        return (
            f"{self.hide(instruction)}\n\nSome texts are kept from you. Type the placeholder, with both pairs of "
            f"braces, and the text itself is typed in its place. There is: {names}"
        )

    def _off_limits(self, action: Action, url: str | None) -> str:
        if self.origins is None or isinstance(action, Wait | Finished | CallUser):
            return ""
        if isinstance(action, Navigate):
            if matches(action.url, self.origins):
                return ""
            return f"{self._named(action.url)} is not among the addresses that may be opened: {', '.join(self.origins)}"
        if matches(url, self.origins) or isinstance(action, Back | Home):
            return ""
        here, allowed = self._named(url), ", ".join(self.origins)
        return f"the page is at {here}, where nothing may be done; go back, or to one of: {allowed}"

    def _misuse_of_secrets(self, action: Action, url: str | None) -> str:
        for text in _texts(action).values():
            for name in PLACEHOLDER.findall(text):
                if name not in self.secrets:
                    known = ", ".join(sorted(self.secrets)) or "none at all"
                    return f"there is no secret {name!r}; there is: {known}"
                if not isinstance(action, Type | Finished | CallUser):
                    return f"a secret can be typed, but not be part of the action {type(action).__name__}"
                if isinstance(action, Type) and not matches(url, self.secrets[name].origins):
                    return f"the secret {name} may not be typed at {self._named(url)}"
        return ""

    def _typed(self, action: Action) -> Action:
        """The action with the values of secrets that there are."""
        if not isinstance(action, Type):
            return action
        return replace(action, text=PLACEHOLDER.sub(lambda found: self.secrets[found[1]].value, action.text))

    def _named(self, url: str | None) -> str:
        """An address for a sentence: no more of it than its origin, the rest may hold anything."""
        if url is None:
            return "an unknown place"
        url = self.hide(url)  # before it is cut: half a secret would not be found
        return origin(url) or f"an address without origin ({url[:20]!r})"

    def _hidden(self) -> dict[str, str]:
        """Every way a secret may be written, with its placeholder; the longest first, as one may be part of another."""
        found: dict[str, str] = {}
        for name, secret in self.secrets.items():
            value = secret.value
            ways = {value, quote(value), quote(value, safe=""), quote_plus(value), html.escape(value)}
            ways |= {repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
            found |= dict.fromkeys(ways, f"{{{{secret:{name}}}}}")
        return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def _texts(action: Action) -> dict[str, str]:
    """The fields of an action that hold a text of the model's own."""
    names = ("text", "content", "question", "url", "name")
    return {item.name: getattr(action, item.name) for item in fields(action) if item.name in names}


def _triggers(action: Action) -> bool:
    """Whether an action can set something off: a click, a key, Enter, a space on what has the focus."""
    return isinstance(action, Click | LongPress | Drag | Hotkey | Press | Release) or (
        isinstance(action, Type)
        and (not {"\n", "\r"}.isdisjoint(action.text) or (action.text.isspace() and " " in action.text))
    )
