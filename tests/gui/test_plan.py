"""Plans are read out of thoughts as models write them: on one line or several, numbered this way or that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.gui.plan import PLAN_HELP, ended, nothing_reached, still_open, update, without_plan

WORDS = st.lists(
    st.sampled_from(["open", "the", "file", "2.5", "v3", "a-b", "Done", "'x'", "保存"]), min_size=1, max_size=5
)
MILESTONES = st.lists(WORDS.map(" ".join), min_size=1, max_size=9)


def plain(*milestones):
    return tuple((milestone, False) for milestone in milestones)


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("Plan: 1. log in 2. open Settings", plain("log in", "open Settings")),
        ("Plan:\n1. log in\n2. open Settings\n\nI click Log in.", plain("log in", "open Settings")),
        ("First I look around. Plan: 1) log in; 2) open Settings. I click.", plain("log in", "open Settings")),
        ("plan: (1) log in (2) open Settings", plain("log in", "open Settings")),
        ("**Plan:** 1. **log in** 2. save", plain("log in", "save")),
        ("## Plan:\n1. log in\n2. save", plain("log in", "save")),
        ("计划：1、打开设置 2、保存。点击设置。", plain("打开设置", "保存")),
        ("计划:1.打开设置2.保存", plain("打开设置", "保存")),
        ("Plan: 1. install version 2.5 2. run it", plain("install version 2.5", "run it")),
        ("Plan: 1. pick 12. May 2. save", plain("pick 12. May", "save")),
        (
            "Plan: 1. log in 3. save",
            plain("log in 3. save"),
        ),
        ("Plan: 1. log in. Plan: 1. sign up 2. save", plain("sign up", "save")),
        ("Plan: click the button", ()),
        ("The plan is simple.", ()),
        ("Airplane: 1. take off", ()),
        ("", ()),
        ("Plan: 1.", ()),
        ("Plan: 1. ... 2. ...", ()),
        ("1. log in 2. save", ()),
    ],
)
def test_plans(thought, expected):
    assert update((), thought) == expected


@pytest.mark.parametrize(
    ("thought", "reached"),
    [
        ("Done: 1", {1}),
        ("I see the page. Done: 1, 3", {1, 3}),
        ("done: 1-3. Now the last.", {1, 2, 3}),
        ("Done: 2 and 3", {2, 3}),
        ("**Done:** 2", {2}),
        ("完成：1、2。", {1, 2}),
        ("Reached: 4", {4}),
        ("Done: 1 Done: 2", {1, 2}),
        ("Done: 7", set()),
        ("Done: 0", set()),
        ("Done: none", set()),
        ("Done: 100", set()),
        ("Undone: 1", set()),
        ("I am done. 1 is next", set()),
    ],
)
def test_ticks(thought, reached):
    plan = update(plain("a", "b", "c", "d"), thought)
    assert {number for number, (_, done) in enumerate(plan, start=1) if done} == reached


def test_a_plan_may_come_with_ticks_and_a_new_one_keeps_them():
    plan = update((), "Plan: 1. log in 2. open Settings. Done: 1")
    assert plan == (("log in", True), ("open Settings", False))
    plan = update(plan, "Plan: 1. open Settings 2. log in 3. save")
    assert plan == (("open Settings", False), ("log in", True), ("save", False))
    assert update(plan, "I click on Save.") == plan


@given(MILESTONES, st.sampled_from(["{n}. {m}\n", "{n}) {m}\n", "({n}) {m}\n", "{n}、{m}\n"]), st.text(max_size=20))
def test_any_plan_on_lines_comes_back(milestones, form, rest):
    lines = "".join(form.format(n=number, m=milestone) for number, milestone in enumerate(milestones, start=1))
    plan = update((), f"Plan:\n{lines}\n{rest if 'plan' not in rest.lower() else ''}")
    assert [milestone for milestone, _ in plan][: len(milestones)] == milestones


@given(st.text(st.sampled_from("Plan:Done：1234567890.)(、 \n-,a")))
def test_any_text_is_read(text):
    plan = update((), text)
    assert len(plan) <= 12
    assert update(plan, "") == plan
    without_plan(text)


@pytest.mark.parametrize(
    "text",
    [
        "Plan: " + "1. " * 20_000,
        "Plan:" * 20_000,
        "Done: " + "1, " * 20_000,
        "Done: 1" * 9999,
        "Done: 1" + " " * 20_000 + "x",
    ],
)
def test_no_text_takes_long(text):
    update((), text)  # quadratic in the length would take minutes
    without_plan(text)


def test_a_plan_is_not_the_deed():
    assert without_plan("Plan: 1. open 2. delete it. I open the file.") == "I open the file."
    assert without_plan("Done: 1. Now I delete it.") == ". Now I delete it."
    assert without_plan("No plan at all") == "No plan at all"


def test_what_is_said_about_a_plan():
    plan = (("log in", True), ("open Settings", False), ("save", False))
    assert "not reached: 2. open Settings; 3. save." in still_open(plan)
    assert "in the last 8 steps; the next is 2. open Settings." in nothing_reached(plan, 8)
    assert [ended(milestones) for milestones in ((), plan[:1], plan)] == [True, True, False]


def test_the_help_is_an_example_of_itself():
    assert [milestone for milestone, _ in update((), PLAN_HELP)] == [
        "the settings are open",
        "the language is Spanish",
        "the change is saved",
    ]
