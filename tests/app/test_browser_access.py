"""The app for people who do not see it, who use a keyboard only, a phone or a dark screen, in a real browser."""

import re

import pytest

from tests.app.browser import TRAINING, go_to, open_app
from tests.app.started_app import started_app

pytestmark = pytest.mark.app

TABS = ("Train", "Own data", "Try", "Which layers")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def check_access():
    """Return a function that lists the serious findings of axe-core on a page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def findings(page):
        found = [item for item in axe.run(page).response["violations"] if item["impact"] in SERIOUS]
        return [(item["id"], node["html"][:200]) for item in found for node in item["nodes"]]

    def check(page):
        # What is being updated is pale for a moment.
        for _ in range(10):
            if not (found := findings(page)):
                break
            page.wait_for_timeout(1000)
        return found

    return check


@pytest.fixture(scope="module")
def url(folder, save_model, app_config):
    """Start the app with two models."""
    save_model(app_config, folder / "first")
    save_model(app_config, folder / "second")
    with started_app(folder, app_config) as address:
        yield address


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.mark.parametrize("width", [1280, 390])
def test_no_tab_has_serious_findings_or_is_cut_off(width, scheme, browser, url, expect, check_access):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    open_app(page, url, expect)
    expect(page.locator("#plan table")).to_be_visible(timeout=TRAINING)
    for tab in TABS:
        go_to(page, tab)
        show_all(page, tab, expect)
        assert check_access(page) == [], tab
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, tab
        names = page.get_by_role("button").evaluate_all(
            "buttons => buttons.map(button => button.ariaLabel || button.innerText.trim() || button.title)"
        )
        own = [name for name in names if name and name.lower() not in ("clear", "close")]
        assert len(own) == len(set(own)), own
        pictures = page.locator("img:visible").evaluate_all("images => images.map(image => image.alt)")
        assert all(pictures), tab
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(re.search(r"\d+", background)[0])
    assert (red < 80) == (scheme == "dark"), background
    context.close()


def show_all(page, tab, expect):
    """Wait for what the tab shows, with both models and all parts open."""
    if tab == "Try":
        page.locator("#second-model input").click()
        page.get_by_role("option", name="first", exact=True).click()
        expect(page.locator(".answer:visible")).to_have_count(4)
        page.locator("#sentence textarea").fill("play some music\nbook a table")
        page.locator("#ask").click()
        expect(page.locator("#answers tbody tr")).to_have_count(2)
    if tab == "Which layers":
        expect(page.locator("#prices table")).to_be_visible()
        expect(page.locator("#scenarios input").first).to_be_visible(timeout=TRAINING)


def test_a_text_is_predicted_with_the_keyboard_only(page, expect):
    page.get_by_role("tab", name="Train").focus()
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#sentence textarea")).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#sentence') !== null"):
            break
    page.keyboard.press("Control+A")
    page.keyboard.type("book a table in rome")
    page.keyboard.press("Shift+Enter")
    expect(page.locator("#answers")).to_contain_text("intent")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id === 'download-csv'"):
            break
    with page.expect_download():
        page.keyboard.press("Enter")


@pytest.mark.parametrize("key", ["Escape", "Tab"])
def test_a_list_closes_without_a_choice(key, page, expect):
    go_to(page, "Try")
    page.locator("#first-model input").click()
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press(key)
    # Tab opens the list of the next field.
    count = 0 if key == "Escape" else 3
    expect(page.get_by_role("option")).to_have_count(count)
    page.keyboard.press("Escape")
    expect(page.get_by_role("option")).to_have_count(0)
    expect(page.locator("#first-model input")).to_have_value(re.compile("first|second"))
