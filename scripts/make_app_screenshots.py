"""Take the pictures of docs/APP.md: start the app with the bundled data, train, compare, try, and photograph each tab.

Needs the extra ``test-app`` and chromium. Takes some minutes, for it trains for real.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
URL = re.compile(r"http://127\.0\.0\.1:\d+")
# For the pictures only.
EPOCHS = 2
COLORS = 128
WIDTH, PHONE_WIDTH, HEIGHT = 1280, 390, 900
SECONDS_TO_START = 120
# Milliseconds. A study trains several models.
TRAINING = 1_800_000
TEXTS = (
    "Amazon showed the new Lumora Watch in Paris last Friday.\n"
    "The match in Madrid was postponed because of the rain.\n"
    "Jordan Reyes sings in Vienna tonight."
)
# As a European Excel writes it, with a row without a text.
SPREADSHEET = "Message;Topic;Date\n" + "".join(
    f"{text};{topic};2024-03-{day:02}\n"
    for day, (text, topic) in enumerate(
        [
            ("The café on Market Street was too loud", "complaint"),
            ("Thank you, the parcel arrived a day early", "praise"),
            ("Where can I see my last invoice?", "question"),
            ("The tea cost 4 € and was cold", "complaint"),
            ("Your driver was very kind", "praise"),
            ("Can I change the address of my order?", "question"),
            ("", "question"),
        ],
        start=1,
    )
)
# Without the way of the first run, so that the winner differs from it.
SCENARIOS = ("encoder-frozen", "heads-then-all", "top:2")


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of the browser")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium)
        take_all(browser, url, options.output)
        browser.close()


@contextmanager
def running_app(folder: Path) -> Iterator[str]:
    """Start the app and yield its address."""
    log = folder / "app.log"
    command = [sys.executable, "-u", "-m", "hf_multitask", "app", "--folder", str(folder / "out")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603 (our own module)
    try:
        end = time.monotonic() + SECONDS_TO_START
        while not (found := URL.search(log.read_text())):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the app has not started: {log.read_text()}")
            time.sleep(0.2)
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def take_all(browser: Browser, url: str, output: Path) -> None:
    """Train a model and a study, and photograph the tabs."""
    page = open_page(browser, url, WIDTH)
    page.locator("#plan table").wait_for()
    page.get_by_role("button", name="Advanced").click()
    page.locator("#epochs input").fill(str(EPOCHS))
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Advanced").click()
    page.locator("#start").click()
    page.get_by_text("has finished. Open the Try tab").first.wait_for(timeout=TRAINING)
    take(page, output / "app-train.png")

    page.get_by_role("tab", name="Own data").click()
    file: FilePayload = {"name": "messages.csv", "mimeType": "text/csv", "buffer": SPREADSHEET.encode("cp1252")}
    page.locator("#own-file input[type=file]").set_input_files(file)
    page.locator("#row-report .notice").first.wait_for()
    take(page, output / "app-data.png")

    page.get_by_role("tab", name="Which layers").click()
    boxes = page.locator("#scenarios").get_by_role("checkbox")
    boxes.first.wait_for()
    for box in boxes.all():
        box.set_checked(False)
    for name in SCENARIOS:
        page.locator("#scenarios").get_by_label(re.compile(f"{name}: ")).check()
    page.locator("#start-study").click()
    page.locator("#train-winner").wait_for(timeout=TRAINING)
    take(page, output / "app-layers.png")

    page.locator("#train-winner").click()
    page.get_by_text("app/run-2 has finished").first.wait_for(timeout=TRAINING)
    page.get_by_role("tab", name="Try").click()
    page.locator("#second-model input").click()
    page.get_by_role("option", name="app/run-1", exact=True).click()
    page.locator(".answer").nth(3).wait_for()
    take(page, output / "app-try.png")
    page.locator("#sentence textarea").fill(TEXTS)
    page.locator("#ask").click()
    page.locator("#answers tbody tr").nth(2).wait_for()
    take(page, output / "app-try-many.png")

    phone = open_page(browser, f"{url}/?__theme=dark#try", PHONE_WIDTH)
    phone.locator(".answer").first.wait_for()
    take(phone, output / "app-phone.png")


def open_page(browser: Browser, url: str, width: int) -> Page:
    """Open the app in a window of a width."""
    page = browser.new_page(viewport={"width": width, "height": HEIGHT})
    page.set_default_timeout(SECONDS_TO_START * 1000)
    page.goto(url)
    page.locator("#run-state .notice").first.wait_for(state="attached")
    return page


def take(page: Page, path: Path) -> None:
    """Photograph a whole page, after its charts are drawn."""
    page.wait_for_timeout(2000)
    page.mouse.move(0, 0)
    page.screenshot(path=path, full_page=True)
    # A page has few colors, and a palette makes its picture a third as large.
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLORS).save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
