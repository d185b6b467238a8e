"""What the tests in the browser share besides fixtures."""

import re

# Milliseconds, with a margin for a busy machine.
WAIT = 60_000
TRAINING = 240_000
# Messages of Gradio about a request that a reload interrupts. Errors of the app itself are in its log.
BROKEN_OFF = re.compile("AbortError|Connection errored out")


def open_app(page, url, expect):
    """Open the app in a page, and wait for the events of a loaded page."""
    page.goto(url)
    expect(page.locator("#run-state .notice").first).to_be_attached(timeout=TRAINING)
    expect(page.locator("#plan *").first).to_be_attached(timeout=TRAINING)


def collect_errors(page, errors):
    """Append the errors of a page's console and scripts to a list."""
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))


def go_to(page, tab):
    page.get_by_role("tab", name=tab).click()


def choose(page, name, option):
    page.locator(f"#{name} input").click()
    page.get_by_role("option", name=option, exact=True).click()
    # Until the list is closed, its options could be taken for those of the next list.
    page.get_by_role("option").first.wait_for(state="detached")


def set_epochs(page, epochs):
    """Fill in the epochs, which are among what most people leave alone."""
    field = page.locator("#epochs input")
    if not field.is_visible():
        page.locator("#advanced").get_by_role("button").first.click()
    # Gradio may fill a field that has just appeared once more, after a script has typed into it.
    while field.input_value() != str(epochs):
        field.fill(str(epochs))
        page.wait_for_timeout(500)
