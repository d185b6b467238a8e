"""Unpack the common tests of the pinned transformers from its source distribution, for make test-conformance."""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("test_configuration_common.py", "test_modeling_common.py")


def pinned_version() -> str:
    """Return the version of transformers in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("transformers==") for line in lines if line.startswith("transformers=="))


def unpack(version: str, folder: Path) -> None:
    """Download the source distribution of a version with pip, and write its common tests to a folder."""
    with tempfile.TemporaryDirectory() as downloads:
        requirement = f"transformers=={version}"
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "transformers"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", downloads, requirement]
        subprocess.run(command, check=True)  # noqa: S603
        (archive,) = Path(downloads).glob("*.tar.gz")
        with tarfile.open(archive) as files:
            texts = {name: files.extractfile(f"transformers-{version}/tests/{name}") for name in FILES}
            contents = {name: text.read() for name, text in texts.items() if text is not None}
    folder.mkdir(parents=True, exist_ok=True)
    # Read by one of the tests as that of transformers itself.
    (folder / "__init__.py").touch()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def main() -> int:
    """Unpack them, if they are not there."""
    version = pinned_version()
    folder = ROOT / "build" / "conformance" / f"transformers-{version}" / "tests"
    if not all((folder / name).is_file() for name in FILES):
        unpack(version, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
