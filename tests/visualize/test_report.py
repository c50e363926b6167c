"""The report in a real browser: what a reader does with it, by mouse and by keyboard, on a desk and
on a phone.
"""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sparsevit3d.errors import InputError
from sparsevit3d.stages.views import NO_BOXES
from tests.support.keyframes import keyframe
from visualize.recall import Tally
from visualize.report import Report, ReportedPlan

PLANS = ("0.5|0.7", "0.2|0.4", "0|0")


def write(path, score=None, title="made <by> hand & 'quoted' </script>"):
    judged = [{"share": 0.3 + 0.1 * n, "score": 0.1 + 0.02 * n} for n in range(5)]
    plans = [
        ReportedPlan(plan, share, score) for plan, share in zip(PLANS, (0.4, 0.7, 1.0), strict=True)
    ]
    report = Report(title, plans, judged if score else (), "mAP")
    for number in range(3):
        report.add([keyframe(plan, seed=number, number=number) for plan in PLANS])
    return report.save(path)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write(tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def opened(browser, report):
    """Opens the page; afterwards it must have complained of nothing and asked for nothing."""
    complaints = []
    pages = []

    def open_page(path=report, **how):
        page = browser.new_page(**how)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url)
                if not request.url.startswith(("file:", "data:"))
                else None
            ),
        )
        page.goto(path.as_uri())
        page.wait_for_selector("#main[data-drawn]")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def shown(page):
    """What the page says of its picture, once that has been drawn."""
    page.wait_for_function(
        "document.querySelector('#main').dataset.drawn === JSON.stringify(state)"
    )
    return page.inner_text("#summary")


def picture(page):
    """The main one, (H, W) of brightness."""
    shown(page)
    _, _, text = page.evaluate("document.querySelector('#main').toDataURL()").partition(",")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"), float)


def test_it_opens_on_the_front_camera_and_says_what_it_shows(opened):
    page = opened()
    assert page.title() == "made <by> hand & 'quoted' </script>"
    text = shown(page)
    assert text.startswith(
        "made 0, front, stage 0: 0.5|0.7 computes 16 of 32 windows (50.0%), 1 objects found. 3 "
        "true objects."
    )
    assert page.get_attribute("#main", "aria-label") == text
    assert page.locator("#recall tr").count() > 3


def test_masks_are_where_the_backbone_pruned(opened):
    page = opened()
    one = keyframe(PLANS[0], seed=0)
    kept = one.trace[0].kept[1].reshape(4, 8)
    page.uncheck("#truth")
    page.uncheck("#found")
    # below what was cropped
    windows = picture(page)[10:].reshape(4, 20, 8, 20)[:, 3:-3, :, 3:-3].mean((1, 3))
    assert ((windows > 80) == kept).all()
    assert windows[kept].mean() > 2.5 * windows[~kept].mean()


def test_the_keyboard_reaches_everything(opened):
    page = opened()
    page.keyboard.press("ArrowRight")
    assert shown(page).startswith("made 1, front,")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert shown(page).startswith("made 2, front,")
    page.keyboard.press("5")
    page.keyboard.press("s")
    page.keyboard.press("p")
    assert re.match(r"made 2, back, stage 1: 0.2\|0.4 computes", shown(page))
    page.keyboard.press("t")
    page.keyboard.press("f")
    page.keyboard.press("v")
    assert not page.is_checked("#truth")
    assert not page.is_checked("#found")
    assert page.input_value("#shown") == "importance"


def test_the_keyboard_goes_on_where_the_mouse_was(opened):
    page = opened()
    page.uncheck("#truth")
    page.keyboard.press("ArrowRight")
    assert shown(page).startswith("made 1, front, stage 0")
    page.select_option("#stage", "1")
    page.keyboard.press("p")
    assert shown(page).startswith("made 1, front, stage 1: 0.2|0.4")
    page.locator("#recall-chart .point").nth(0).focus()
    page.keyboard.press("5")
    assert shown(page).startswith("made 1, back, stage 1: 0.2|0.4")
    assert (
        page.evaluate(
            "[...document.querySelectorAll('#recall-chart .point')].indexOf(document.activeElement)"
        )
        == 0
    )


def test_importance_has_a_key_and_says_where_there_is_none(opened):
    page = opened()
    page.select_option("#shown", "importance")
    assert "nothing was scored" not in shown(page)
    assert page.is_visible("#key")
    assert len(np.unique(picture(page)[15:, 5:-5] // 8)) > 5
    page.select_option("#plan-a", "2")
    assert "0|0 prunes nothing here, so nothing was scored" in shown(page)
    assert not page.is_visible("#key")


def test_menus_and_cameras_by_mouse(opened):
    page = opened()
    page.select_option("#frame", label="made 1")
    page.select_option("#stage", "1")
    page.select_option("#plan-a", "2")
    page.click("#cameras button:nth-child(6)")
    assert shown(page).startswith(
        "made 1, back right, stage 1: 0|0 computes 8 of 8 windows (100.0%)"
    )
    assert page.get_attribute("#cameras button:nth-child(6)", "aria-pressed") == "true"
    page.click("#previous")
    assert shown(page).startswith("made 0, back right")


def test_two_plans_side_by_side(opened):
    page = opened()
    assert not page.is_visible("#plan-b")
    page.check("#compare")
    page.uncheck("#truth")
    page.uncheck("#found")
    assert "; 0|0 computes 32 of 32 windows (100.0%), 1 objects found" in shown(page)
    page.fill("#slider", "0")
    dense = picture(page)
    page.fill("#slider", "100")
    pruned = picture(page)
    assert pruned.mean() < 0.8 * dense.mean()
    page.fill("#slider", "50")
    both = picture(page)
    assert (both[:, :70] == pruned[:, :70]).all()
    assert (both[:, 90:] == dense[:, 90:]).all()
    main = page.locator("#main")
    box = main.bounding_box()
    main.click(position={"x": 0.25 * box["width"], "y": 0.5 * box["height"]})
    assert page.input_value("#slider") == "25"


def test_points_of_the_charts_open_their_masks(opened):
    page = opened()
    points = page.locator("#recall-chart .point")
    assert points.count() == 4  # of two plans that prune
    points.nth(3).click()
    assert shown(page).startswith("made 0, front, stage 1: 0.2|0.4 computes")
    first = page.locator("#score-chart .point").nth(0)
    first.focus()
    page.keyboard.press("Enter")
    assert shown(page).startswith("made 0, front, stage 1: 0.5|0.7 computes")
    assert page.evaluate("document.activeElement.classList.contains('point')")


def test_figures_are_those_of_object_recall(opened):
    page = opened()
    tally = Tally()
    for number in range(3):
        tally.add(keyframe(PLANS[0], seed=number, number=number))
    expected = tally.as_dict()["stages"][0]["all"]
    row = page.locator("#recall tr").nth(1).inner_text().split("\t")
    assert row[:2] == ["all objects", str(expected["objects"])]
    assert row[2] == f"{100 * expected['share_of_pixels']['kept']:.1f}%"


def test_scores_of_a_search_are_its_chart(opened, tmp_path):
    page = opened(write(tmp_path / "scored.html", 0.15))
    assert page.locator("#score-chart .faint").count() == 5
    assert page.locator("#score-chart .front").count() == 1
    assert "mAP" in page.locator("#score-chart .point").nth(0).get_attribute("aria-label")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone(opened, scheme, tmp_path):
    page = opened(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.check("#compare")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    heights = page.evaluate(
        "[...document.querySelectorAll('select:not([hidden]), #previous, #next')].map((e) => "
        "e.getBoundingClientRect().height)"
    )
    assert min(heights) >= 40
    for name in ("text", "quiet", "a", "b"):
        assert contrast(page, name) >= 4.5
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    assert (tmp_path / "phone.png").stat().st_size > 20_000


def contrast(page, name):
    """Of a colour on the page's background, as WCAG 2 defines it."""
    colours = [
        page.evaluate(
            "(name) => getComputedStyle(document.documentElement).getPropertyValue('--' + "
            "name).trim()",
            each,
        )
        for each in (name, "back")
    ]
    light = []
    for colour in colours:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_everything_to_click_has_a_name(opened):
    page = opened()
    page.check("#compare")
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, select, input, canvas[role], svg .point')]
        .filter((e) => !(
            e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
            || e.textContent.trim() && e.tagName === 'BUTTON' || e.labels?.length
        ))
        .map((e) => e.outerHTML)"""
    )
    assert nameless == []


def test_keyframes_without_objects_are_shown_all_the_same(opened, tmp_path):
    report = Report("made", [ReportedPlan("0.5|0.7", 0.5)])
    one = keyframe()
    report.add([replace(one, views=[replace(view, truth=NO_BOXES) for view in one.views])])
    page = opened(report.save(tmp_path / "report.html"))
    assert "0 true objects" in shown(page)
    assert page.locator("#recall-chart .point").count() == 0


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no keyframe"):
        Report("made", [ReportedPlan("0|0", 1.0)]).save(tmp_path / "report.html")
    with pytest.raises(InputError, match="needs a plan"):
        Report("made", [])
    assert not list(tmp_path.iterdir())
