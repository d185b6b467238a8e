"""The page in examples/serve: it marks entities by their offsets, in node and in a browser."""

import json
import shutil
import socket
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.serving.http_client import Client

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve"
TEXTS = ["play 🎷 jazz in são paulo", "e\u0301te\u0301 in paris 👨‍👩‍👧!", "𝕏 play 𝕐 new york", "plain text in rome"]
SCRIPT = """
import {{ divide, predict }} from {module};
const results = [];
for (const text of {texts}) {{
  const {{ slots }} = await predict({server}, text);
  results.push({{ text, entities: slots.entities, parts: divide(text, slots.entities) }});
}}
let refusal = "";
try {{ await predict({server}, " "); }} catch (error) {{ refusal = error.message; }}
console.log(JSON.stringify({{ results, refusal }}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_marks_the_entities(server):
    values = {
        "module": (EXAMPLE / "highlight.mjs").as_uri(),
        "texts": TEXTS,
        "server": f"http://127.0.0.1:{server.port}",
    }
    script = SCRIPT.format(**{name: json.dumps(value) for name, value in values.items()})
    command = ["node", "--input-type=module", "--eval", script]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["refusal"].startswith("422: inputs: 'text' is empty")
    for row in found["results"]:
        assert "".join(part["text"] for part in row["parts"]) == row["text"]
        marked = [(part["text"], part["label"]) for part in row["parts"] if part["label"] is not None]
        assert marked == [(entity["text"], entity["label"]) for entity in row["entities"]]
        assert marked


@pytest.fixture
def pages():
    """Serve the folder of the page as `python -m http.server` does, and return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=EXAMPLE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.app
def test_a_browser_marks_the_entities(start, pages):
    api = pytest.importorskip("playwright.sync_api")
    with (
        start("--allow-origin", pages, "--token", "secret") as running,
        Client(running.port) as client,
        api.sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{pages}/index.html")
        page.locator("[name=server]").fill(f"http://127.0.0.1:{running.port}")
        page.get_by_role("button", name="Predict").click()
        api.expect(page.get_by_role("status")).to_contain_text("error: 401: expected the header")
        page.locator("[name=token]").fill("secret")
        for text in TEXTS:
            page.locator("[name=text]").fill(text)
            page.get_by_role("button", name="Predict").click()
            status, answer = client.post("/predict", {"inputs": text}, Authorization="Bearer secret")
            assert status == 200
            shown = page.get_by_role("status").locator("p", has_text="slots: ")
            api.expect(shown).to_contain_text(text.split()[0])
            api.expect(page.get_by_role("status").locator("p")).to_have_count(len(answer))
            entities = answer["slots"]["entities"]
            assert entities
            api.expect(shown.locator("mark")).to_have_text([entity["text"] + entity["label"] for entity in entities])
        assert not errors
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            page.locator("[name=server]").fill(f"http://127.0.0.1:{free.getsockname()[1]}")
        page.get_by_role("button", name="Predict").click()
        api.expect(page.get_by_role("status")).to_contain_text("error: ")
        browser.close()
