"""The probe as the page shows it."""

from dataclasses import replace

import pytest

pytest.importorskip("gradio")

from hf_multitask.app.choices import default_choices
from hf_multitask.app.probe_view import show_probe


def test_a_probe_of_the_choices_on_the_page(services, app_config):
    probe = services.probe(str(app_config), default_choices(services.base_config(str(app_config))))
    shown = show_probe(probe)
    assert "intent: linear heads read it best from depth" in shown
    assert "data:image/png" in shown
    assert '<td data-column="output of">embeddings</td>' in shown
    assert not list(services.workspace.app_dir.glob("run-*")), "nothing is written"


def test_names_of_the_page_are_escaped(services, app_config):
    probe = services.probe(str(app_config), default_choices(services.base_config(str(app_config))))
    shown = show_probe(replace(probe, encoder="<script>"))
    assert "<script>" not in shown
