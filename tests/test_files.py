"""checks/files.py: whole or not at all."""

import pytest

from checks.files import replacing, write_atomically


def test_what_fails_to_be_written_leaves_what_was_there(tmp_path):
    path = tmp_path / "kept.txt"
    write_atomically(path, "old")
    with pytest.raises(OSError, match="full"), replacing(path) as draft:
        draft.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("data", ["naïve", "naïve".encode()])
def test_text_is_written_as_utf_8_into_folders_made_for_it(tmp_path, data):
    path = tmp_path / "new" / "in_new" / "file"
    write_atomically(path, data)
    assert path.read_bytes() == "naïve".encode() and path.stat().st_mode & 0o777 == 0o644
