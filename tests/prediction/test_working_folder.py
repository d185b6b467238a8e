"""The folder of the parts of an unfinished prediction."""

import pytest

from hf_multitask.prediction.working_folder import WorkingFolder

SETTINGS = {"input": "a.jsonl", "keep": []}
REPORT = {"predicted": 1, "skipped": []}


def begin(output, settings=SETTINGS, overwrite=False):
    folder = WorkingFolder(output)
    folder.open(settings, overwrite)
    return folder


@pytest.fixture
def unfinished(tmp_path):
    """Return the output of a run that has written a part and was stopped."""
    folder = begin(tmp_path / "out.jsonl")
    folder.write_manifest({"settings": SETTINGS, "batch": [8, None]})
    folder.write_part(3, lambda file: file.write(b"rows"), REPORT)
    folder.close()
    return tmp_path / "out.jsonl"


def test_a_run_with_the_same_settings_goes_on(unfinished):
    for overwrite in (False, True):
        folder = begin(unfinished, overwrite=overwrite)
        assert folder.whole_parts() == {3}
        assert folder.report(3) == REPORT
        assert folder.manifest()["batch"] == [8, None]
        folder.close()


def test_parts_of_other_settings_are_removed_only_when_that_is_asked_for(unfinished):
    other = {**SETTINGS, "keep": ["id"]}
    with pytest.raises(FileExistsError, match=r'left parts made with other settings \(keep: \[\], now \["id"\]\)'):
        begin(unfinished, other)
    assert begin(unfinished).whole_parts() == {3}
    folder = begin(unfinished, other, overwrite=True)
    assert sorted(path.name for path in folder.path.iterdir()) == ["lock"]


def test_a_folder_without_parts_is_removed_when_it_is_closed(tmp_path, unfinished):
    folder = begin(tmp_path / "other.jsonl")
    assert folder.path.is_dir()
    folder.close()
    assert not folder.path.exists()
    # A folder that another process holds is left alone.
    held, refused = begin(tmp_path / "held.jsonl"), WorkingFolder(tmp_path / "held.jsonl")
    refused.close()
    assert held.path.is_dir()
    assert unfinished.with_name("out.jsonl.parts").is_dir()


def test_long_settings_are_shortened(unfinished):
    with pytest.raises(FileExistsError, match=r'now "a{79}\)') as error:
        begin(unfinished, {**SETTINGS, "input": "a" * 200})
    assert "a" * 80 not in str(error.value)
