"""Tasks that are won by clicks on buttons, links, boxes and tabs."""

from visavis.gui.actions import Action
from visavis.gui.bench.miniwob.oracles.page import Page, check, press, submit

__all__ = ["ORACLES"]


def _click_test_transfer(page: Page) -> Action:
    return press(page.one("button", content=page.said(r"button (\w+)")[0]))


def _click_button(page: Page) -> Action:
    return press(page.one("button", content=page.quoted()[0]))


def _click_button_sequence(page: Page) -> Action:
    first = page.one("button", content="ONE")
    return press(page.one("button", content="TWO") if first.clicked else first)


def _click_link(page: Page) -> Action:
    return press(page.one(cls="alink", content=page.quoted()[0]).words[0])


def _click_dialog(page: Page) -> Action:
    return press(page.one("button", cls="ui-dialog-titlebar-close"))


def _click_dialog_2(page: Page) -> Action:
    (name,) = page.quoted()
    if name == "x":
        return _click_dialog(page)
    return press(page.one(cls="ui-dialog-buttonset").one("button", content=name))


def _click_tab(page: Page) -> Action:
    return press(page.one("a", content=page.said(r"(Tab #\d)")[0]))


def _click_color(page: Page) -> Action:
    return press(page.one(cls="color", data_color=page.said(r"the (\w+) colored")[0]))


def _click_widget(page: Page) -> Action:
    return press(page.one(data_type=page.quoted()[0]))


def _click_option(page: Page) -> Action:
    (name,) = page.said(r"Select (.+) and click Submit")
    return check(page.one("label", content=name).one("input"), True) or submit(page)


def _click_checkboxes(page: Page) -> Action:
    (names,) = page.said(r"Select (.+) and click Submit")
    return _check_all(page, names.split(", "))


def _check_all(page: Page, wanted: list[str]) -> Action:
    for label in page.all("label"):
        action = check(label.one("input"), label.content in wanted)
        if action:
            return action
    return submit(page)


_SYNONYMS = """
    big large huge enormous gigantic; small tiny little mini petite; red scarlet crimson vermillion;
    happy cheerful joyful gleeful delighted; sad unhappy sorrowful miserable tragic; angry mad furious irritated;
    evil wicked immoral sinful corrupt depraved; wrong incorrect mistaken erroneous; real genuine actual;
    strange odd peculiar unusual weird; stop cease halt end finish; scared terrified panicked fearful frightened afraid;
    quiet calm peaceful serene mild; old aged archaic; love like adore favor; kill murder assassinate;
    keep retain preserve sustain maintain; hide conceal camouflage; hate despise loathe detest dislike;
    funny humorous amusing comical laughable; fat fleshy plump chubby; stupid dumb dull unwise;
    delicious savory delectable appetizing; cut slice carve chop; brave courageous fearless;
    begin start initiate launch; answer reply response; television televisions TV TVs; house home houses homes;
    fire flame fires flames; pig pork swine; rabbit rabbits bunny bunnies;
    car cars automobile automobiles vehicle vehicles; water
"""


def _click_checkboxes_soft(page: Page) -> Action:
    names = page.said(r"similar to (.+) and click Submit")[0].split(", ")
    groups = [group.split() for group in _SYNONYMS.split(";")]
    return _check_all(page, [word for group in groups if set(group) & set(names) for word in group])


def _focus_text(page: Page) -> Action:
    return press(page.one("input"))


def _focus_text_2(page: Page) -> Action:
    return press(page.all("input")[int(page.said(r"(\d)")[0]) - 1])


def _grid_coordinate(page: Page) -> Action:
    return press(page.one(id=page.said(r"(\(.+\))")[0]))


def _identify_shape(page: Page) -> Action:
    shape = page.one(id="area_svg").children[0]
    names = {"circle": "circle", "rect": "rectangle", "polygon": "triangle"}
    name = names.get(shape.tag, "digit" if shape.content.isdigit() else "letter")
    return press(page.one("button", data_type=name))


ORACLES = {
    "click-button": _click_button,
    "click-button-sequence": _click_button_sequence,
    "click-checkboxes": _click_checkboxes,
    "click-checkboxes-large": _click_checkboxes,
    "click-checkboxes-soft": _click_checkboxes_soft,
    "click-checkboxes-transfer": _click_checkboxes,
    "click-color": _click_color,
    "click-dialog": _click_dialog,
    "click-dialog-2": _click_dialog_2,
    "click-link": _click_link,
    "click-option": _click_option,
    "click-tab": _click_tab,
    "click-test": submit,
    "click-test-2": submit,
    "click-test-transfer": _click_test_transfer,
    "click-widget": _click_widget,
    "focus-text": _focus_text,
    "focus-text-2": _focus_text_2,
    "grid-coordinate": _grid_coordinate,
    "identify-shape": _identify_shape,
}
