"""The page in examples/serve: its script marks entities by their offsets, in node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

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
