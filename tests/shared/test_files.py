import pytest

from shared.errors import UserError
from shared.files import check_writable, replacing, write_atomically


def test_a_file_appears_whole_below_new_folders(tmp_path):
    path = tmp_path / "new" / "a.png"
    with replacing(path) as partial:
        partial.write_bytes(b"content")
        assert partial.suffix == ".png" and not path.exists()
    assert path.read_bytes() == b"content"
    write_atomically(path, b"other")
    assert path.read_bytes() == b"other"
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_an_interrupted_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")

    def interrupted():
        with replacing(path) as partial:
            partial.write_bytes(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_for_results_is_checked_and_not_made(tmp_path):
    check_writable(tmp_path / "runs" / "new", "--output")
    assert [p.name for p in tmp_path.rglob("*")] == ["runs"]
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot write to .*: name another with --output"):
            check_writable(folder, "--output")
