"""Loads a model by its name in an environment without `hf_multitask`: ``python -S stranger.py REPO RESULT.json``."""

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

from huggingface_hub import hf_hub_download
from transformers import AutoModel, pipeline

assert importlib.util.find_spec("hf_multitask") is None
repo, result, texts = sys.argv[1:]
refused = ""
try:
    AutoModel.from_pretrained(repo)
except ValueError as error:
    refused = str(error)
card = Path(hf_hub_download(repo, "README.md")).read_text(encoding="utf-8")
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    exec(card.split("```python\n")[2].split("```")[0], {})
pipe = pipeline("multi-task", model=repo, trust_remote_code=True)
values = {"predictions": pipe(json.loads(texts)), "refused": refused, "printed": printed.getvalue()}
Path(result).write_text(json.dumps({**values, "module": type(pipe.model).__module__}), encoding="utf-8")
