"""What a policy lets pass: addresses as browsers read them, words that cannot be taken back, and no secret anywhere."""

import html
import json
import urllib.parse

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from visavis.errors import InputError
from visavis.gui.actions import (
    Back,
    CallUser,
    Click,
    Drag,
    Finished,
    Home,
    Hotkey,
    Move,
    Navigate,
    OpenApp,
    Press,
    Scroll,
    Type,
    Wait,
)
from visavis.gui.safety import Judgement, Policy, Secret, consequence, matches, origin
from visavis.gui.safety.consequences import BEGINNINGS, PARTS
from visavis.gui.screen import Screenshot

HOME = "https://example.org/start"
SECRET = "p'w\"ö &<x>%"


# Addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org", "http://example.org"),
        ("HTTP://EXAMPLE.org:80/path?query#fragment", "http://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("https://example.org:80/", "https://example.org:80"),
        ("https://example.org./", "https://example.org"),
        ("https://good.org@evil.org/", "https://evil.org"),
        ("https://good.org:pass@evil.org:8443/", "https://evil.org:8443"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example"),
        ("https://example.org/?a={b}|\\c\td#\u00e9", "https://example.org"),
        ("https://example.org?@evil.org", "https://example.org"),
        ("https://example.org#@evil.org", "https://example.org"),
        ("https://good.org;@evil.org@other.org/", "https://other.org"),
        ("https://example.org:", "https://example.org"),
        ("https://example.org:0443", "https://example.org"),
        ("file:///etc/passwd", "file://"),
        # Read differently by browsers and by Python, or of no origin: none.
        (r"https://evil.org\@good.org/", None),
        ("https://faß.org/", None),  # fass.org to Python, xn--fa-hia.org to browsers
        ("https://good\u00ad.org/", None),
        ("https://good。org/", None),
        ("https://evil.org\t.good.org/", None),
        ("https://good.org\n.evil.org/", None),
        (" https://good.org", None),
        ("https://\u212aool.org", None),  # lower case makes an ASCII letter of the sign of Kelvin
        ("http\u017f://good.org", None),  # and capitals an S of the long one
        ("https://go od.org/", None),
        ("http://0x7f.1/", None),
        ("http://127.1/", None),
        ("http://a.1/", None),
        ("http://[0::1]/", None),
        ("http://[1.2.3.4]/", None),
        ("https://a..b/", None),
        ("https://good.org:65536/", None),
        ("https://", None),
        ("https://.", None),
        ("https://@/", None),
        ("https:good.org", None),
        ("https:/good.org", None),
        ("https:///good.org", None),
        ("//good.org/", None),
        ("https://good%2eorg/", None),
        ("https://good.org:port/", None),
        ("https://[::1/", None),
        ("file://server/share", None),
        ("data:text/html,<p>", None),
        ("blob:https://good.org/1234", None),
        ("about:blank", None),
        ("javascript:alert(1)", None),
        ("view-source:https://good.org/", None),
        ("ftp://good.org/", None),
        ("", None),
    ],
)
def test_origin(url, expected):
    assert origin(url) == expected


@pytest.mark.parametrize(
    ("url", "pattern", "expected"),
    [
        ("https://example.org/a", "https://example.org", True),
        ("https://example.org:443/a", "https://example.org", True),
        ("https://example.org/a", "https://example.org:443", True),
        ("http://example.org/a", "https://example.org", False),
        ("https://example.org:8443/a", "https://example.org", False),
        ("https://example.org:8443/a", "https://example.org:8443", True),
        ("https://example.org:8443/a", "https://example.org:*", True),
        ("https://a.example.org/", "https://example.org", False),
        ("https://a.example.org/", "https://*.example.org", True),
        ("https://a.b.example.org/", "https://*.example.org", True),
        ("https://example.org/", "https://*.example.org", False),
        ("https://evilexample.org/", "https://*.example.org", False),
        ("https://example.org.evil.org/", "https://example.org", False),
        ("http://127.0.0.1:4711/", "http://127.0.0.1:*", True),
        ("http://0x7f.1:4711/", "http://127.0.0.1:*", False),
        ("file:///tmp/a.html", "file://", True),
        ("file:///tmp/a.html", "https://example.org", False),
        ("https://example.org/", "file://", False),
        ("about:blank", "https://example.org", False),
        ("about:blank", "*", True),
        (None, "https://example.org", False),
        (None, "*", True),
    ],
)
def test_matches(url, pattern, expected):
    assert matches(url, ["http://other.org", pattern]) is expected


@given(st.text(max_size=30))
@example("https://example.org\u2028@evil.org")
def test_no_text_gets_past_an_origin_but_its_own_addresses(text):
    """Whatever comes between scheme and host: a match means that the host is the one, by the plainest of readings."""
    for url in (f"https://{text}example.org/", f"https://example.org{text}/", f"{text}https://example.org"):
        if matches(url, ["https://example.org"]):
            userinfo, _, host = urllib.parse.urlsplit(url).netloc.rpartition("@")
            assert host.lower().rstrip(".").removesuffix(":443").rstrip(".:") == "example.org"
            assert "\\" not in userinfo


@given(st.text())
def test_any_text_has_an_origin_or_none(text):
    assert origin(text) is None or matches(text, ["*"])


# What may be done -----------------------------------------------------------------------------------------------------


def test_off_its_origins_an_agent_may_only_leave():
    policy = Policy(origins=("https://example.org",))
    click = Click((1, 1))
    assert policy.judge(click, url=HOME).answer == "allow"
    for url in ("https://evil.org/secret-path", "about:blank", None):
        for action in (click, Type("x"), Hotkey(("ctrl", "v")), Scroll((1, 1), down=1), Move((1, 1))):
            judgement = policy.judge(action, url=url)
            assert judgement.answer == "refuse"
            assert "secret-path" not in judgement.reason
        for action in (Wait(), Finished(), CallUser(), Back(), Home(), Navigate(HOME)):
            assert policy.judge(action, url=url).answer == "allow"
    assert policy.judge(Navigate("https://evil.org"), url=HOME) == Judgement(
        "refuse", "https://evil.org is not among the addresses that may be opened: https://example.org"
    )
    assert policy.judge(Navigate("javascript:alert(1)"), url=HOME).answer == "refuse"
    assert Policy().judge(click, url=None).answer == "allow"


def test_kinds_of_action():
    policy = Policy(kinds={OpenApp: "refuse", Navigate: "ask"})
    assert policy.judge(OpenApp("shell")) == Judgement("refuse", "the action OpenApp is not allowed here")
    assert policy.judge(Navigate(HOME)) == Judgement("ask", "the action Navigate must be confirmed here")
    assert policy.judge(Click((1, 1))).answer == "allow"
    assert Policy(kinds={Click: "refuse"}).judge(Click((1, 1)), thought="I delete it").answer == "refuse"
    assert Policy(kinds={Click: "ask"}, consequential="refuse").judge(Click((1, 1)), thought="buy").answer == "refuse"


CONSEQUENCES = {
    "buy or pay": [
        "I will click the Buy now button.",
        "Next, proceed to checkout",
        "Click 'Place Order'.",
        "PAY with the saved card",
        "Ich klicke auf „Jetzt kaufen“.",
        "Nun die Rechnung bezahlen.",
        "Den Betrag ueberweisen",
        "Je clique sur Acheter",
        "Hago clic en Comprar",
        "Clicar em Pagar",
        "Clicco su Acquista ora",
        "Klik op Bestellen en betalen",
        "Klikam Kup teraz",
        "Satın al düğmesine tıkla",
        "Нажимаю «Купить»",
        "点击“立即购买”按钮",
        "現在點擊付款",
        "購入ボタンをクリックする",
        "결제 버튼을 클릭합니다",
        "انقر على زر الشراء",
        "खरीदें बटन पर क्लिक करें",
        "Bấm nút thanh toán",
        "ＢＵＹ it",
        "b\u200buy it",
        "bu\u00ady it",
    ],
    "delete": [
        "Delete the message",
        "I am deleting all files",
        "the account's deletion",
        "Remove the item from the list",
        "Die Datei löschen",
        "Lo\u0308schen anklicken",
        "Supprimer le fichier",
        "Eliminar la cuenta",
        "删除该文件",
        "刪除",
        "削除をクリック",
        "삭제",
        "Нажимаю «Удалить»",
        "Dosyayı sil",
    ],
    "send": [
        "Send the e-mail",
        "sending it now",
        "Nachricht senden",
        "Abschicken",
        "Envoyer le message",
        "Enviar mensaje",
        "发送消息",
        "送信する",
        "Нажимаю «Отправить»",
        "Publish the page",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in CONSEQUENCES.items() for text in texts])
def test_what_cannot_be_taken_back_is_asked_about(kind, text):
    assert consequence(text)[0] == kind
    assert Policy().judge(Click((1, 1)), thought=text).answer == "ask"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I click the search field in order to look for shoes.",
        "Open Settings and select English.",
        "The sort order is by name; products are ordered by price.",
        "Read the next sentence of the payload on this page.",
        "The silver icon represents consensus.",
        "Ich öffne die Einstellungen.",
        "点击设置按钮",
        "設定を開く",
        "Wählen Sie die Sprache aus.",
        "Ouvrir les paramètres de la page",
    ],
)
def test_what_harms_nobody_is_not_asked_about(text):
    assert consequence(text) is None
    assert Policy().judge(Click((1, 1)), thought=text).answer == "allow"


def test_every_word_is_found_in_its_own_consequence():
    for kind in BEGINNINGS:
        for word in (*BEGINNINGS[kind].split(), *PARTS[kind].split()):
            found = consequence(f"x {word.strip('_').replace('.', ' ')} y")
            assert found is not None, word
            assert found[0] == kind or word in BEGINNINGS[kind], word  # Latin words may be of two languages


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        (Click((1, 1)), "ask"),
        (Drag(((1, 1), (2, 2))), "ask"),
        (Hotkey(("ctrl", "enter")), "ask"),
        (Press("delete"), "ask"),
        (Type("yes\n"), "ask"),
        (Type("yes"), "allow"),
        (Move((1, 1)), "allow"),
        (Scroll((1, 1), down=3), "allow"),
        (Wait(), "allow"),
        (Finished("deleted"), "allow"),
    ],
)
def test_only_what_sets_something_off_is_asked_about(action, answer):
    assert Policy().judge(action, thought="This will delete the file").answer == answer
    assert Policy(consequential="allow").judge(action, thought="This will delete the file").answer == "allow"


# Secrets and masks ----------------------------------------------------------------------------------------------------


def secrets(value=SECRET, origins=("https://example.org",)):
    return Policy(secrets={"password": Secret(value, origins), "pin": Secret("4711", ("*",))})


def test_secrets_go_only_where_they_belong():
    policy, action = secrets(), Type("ada\n{{secret:password}}{{secret:pin}}\n")
    assert policy.holds_secret(action)
    assert not policy.holds_secret(Type("secret:pin"))
    assert policy.judge(action, url=HOME).answer == "allow"
    assert policy.reveal(action, url=HOME) == Type(f"ada\n{SECRET}4711\n")
    for url in ("https://evil.org/", "http://example.org/", None):
        assert policy.judge(action, url=url).reason.startswith("the secret password may not be typed at ")
        with pytest.raises(
            InputError, match="^action: expected secrets where they may be typed, got another: the secret"
        ):
            policy.reveal(action, url=url)
    assert policy.judge(Type("{{secret:pin}}"), url=None).answer == "allow"


def test_secrets_are_typed_and_nothing_else():
    policy = secrets()
    for action in (Navigate("https://example.org/?{{secret:password}}"), OpenApp("{{secret:pin}}")):
        assert policy.judge(action, url=HOME).answer == "refuse"
        assert (
            "cannot" in policy.judge(action, url=HOME).reason or "can be typed" in policy.judge(action, url=HOME).reason
        )
    assert policy.judge(Type("{{secret:other}}"), url=HOME) == Judgement(
        "refuse", "there is no secret 'other'; there is: password, pin"
    )
    assert policy.judge(Type("{{secret:}}"), url=HOME).answer == "refuse"
    assert policy.reveal(Finished("{{secret:pin}}"), url=HOME) == Finished("{{secret:pin}}")
    assert Policy().judge(Type("{{secret:a}}")).reason == "there is no secret 'a'; there is: none at all"


WAYS = [
    str,
    urllib.parse.quote,
    urllib.parse.quote_plus,
    html.escape,
    lambda text: urllib.parse.quote(text, safe=""),
    lambda text: urllib.parse.urlencode({"q": text}).removeprefix("q="),
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: str(ValueError(f"cannot type {text!r}"))[len("cannot type '") : -1],
]


@given(st.text(st.characters(codec="utf-8"), min_size=3, max_size=12), st.sampled_from(WAYS), st.text(), st.text())
@example("secret", str, "", "")
@example("{{secret:password}}", str, "", "")
@example(SECRET, repr, "", "")
def test_a_secret_is_hidden_however_it_is_written(value, write, before, after):
    hidden = secrets(value).hide(f"{before}{write(value)}{after}")
    assert "{{secret:password}}" in hidden
    assert write(value) not in hidden.replace("{{secret:password}}", "\0")


def test_hiding_leaves_placeholders_and_other_texts_alone():
    policy = secrets("secret")
    assert policy.hide("{{secret:password}} is no secret!") == "{{secret:password}} is no {{secret:password}}!"
    assert policy.hide("nothing") == "nothing"
    assert Policy().hide("secret") == "secret"


def test_one_secret_within_another():
    policy = Policy(secrets={"a": Secret("abc", ("*",)), "b": Secret("abcdef", ("*",))})
    assert policy.hide("abcdef abc") == "{{secret:b}} {{secret:a}}"


def test_a_secret_that_a_model_read_off_the_screen_is_one_again():
    policy = secrets("hunter2")
    assert policy.hide_in(Type("hunter2")) == Type("{{secret:password}}")
    stolen = policy.hide_in(Navigate("https://example.org/?q=hunter2"))
    assert policy.judge(stolen, url=HOME).answer == "refuse"
    click = Click((1, 1))
    assert policy.hide_in(click) is click


def test_no_representation_of_a_policy_shows_a_secret():
    assert "hunter2" not in repr(secrets("hunter2"))


def test_the_model_is_told_the_names():
    assert Policy().told("Log in") == "Log in"
    told = secrets("hunter2").told("Log in")
    assert told.startswith("Log in\n\n")
    assert "{{secret:password}}, {{secret:pin}}" in told
    assert "hunter2" not in told
    assert secrets("hunter2").told("Use hunter2").startswith("Use {{secret:password}}\n")


def test_masked_boxes_are_black_and_the_rest_is_as_it_was():
    pixels = np.random.default_rng(0).integers(1, 256, (20, 30, 3)).astype(np.uint8)
    seen = Policy(masks=((2, 3, 5, 7), (25, 15, 999, 999))).mask(Screenshot(pixels, 2.0, HOME))
    expected = pixels.copy()
    for y in range(20):
        for x in range(30):
            if (2 <= x < 5 and 3 <= y < 7) or (x >= 25 and y >= 15):
                expected[y, x] = 0
    np.testing.assert_array_equal(seen.pixels, expected)
    assert (seen.scale, seen.url) == (2.0, HOME)
    assert pixels.min() > 0  # the screen's own is untouched


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"origins": ("example.org",)}, "^origins: expected an origin in lower case and without a path"),
        ({"origins": ("https://example.org/",)}, "got 'https://example.org/'"),
        ({"origins": ("https://Example.org",)}, "in lower case"),
        ({"kinds": {Click: "maybe"}}, '^kinds, consequential: expected "allow", "ask" or "refuse", got \'maybe\''),
        ({"consequential": "no"}, "^kinds, consequential"),
        ({"secrets": {"a b": Secret("abc", ())}}, "^secrets: expected names of letters"),
        ({"secrets": {"a": Secret("ab", ())}}, "^secrets: expected at least 3 characters in a, got 2"),
        ({"secrets": {"a": Secret("abc", ("x",))}}, "^origins of the secret a: expected"),
        ({"masks": ((5, 5, 5, 9),)}, "^masks: expected boxes"),
        ({"masks": ((-1, 0, 5, 9),)}, "^masks: expected boxes"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Policy(**options)
