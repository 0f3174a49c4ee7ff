"""One decision in every dialect; a reply read, a reply refused and the words that go back to the model."""

from visavis.errors import ReplyError
from visavis.gui.actions import (
    DOUBAO_1_5,
    JSON_TOOLS,
    UI_TARS_1_0,
    UI_TARS_1_5,
    Click,
    Hotkey,
    Type,
    to_json,
)

size = (2880, 1800)  # a HiDPI laptop: pixels of the screenshot
decision = (Click((1440, 40)), Hotkey(("ctrl", "a")), Type('it\'s "quoted",\nAction: 中文\n'))
for dialect in (UI_TARS_1_0, UI_TARS_1_5, DOUBAO_1_5, JSON_TOOLS):
    width, height = dialect.image_size(size)
    print(f"# {dialect.name}, which is given {width} x {height} pixels")
    text = dialect.format("The address goes into the bar above.", decision, size)
    print(text, end="\n\n")
    assert dialect.parse(text, size).actions == decision

reply = UI_TARS_1_5.parse("Thought: Save it.\nAction:hotkey(key='Ctrl+S')", size)
print(reply.thought, [to_json(action) for action in reply.actions])

for text in ("Action: click(point='<point>0.5 0.5</point>')", "Action: type(content='say 'hi'')", "I would click OK."):
    try:
        UI_TARS_1_5.parse(text, size)
    except ReplyError as error:
        print(error)
