from pathlib import Path

import pytest

from shared.cli import call
from shared.errors import MissingFileError, UserError


def test_user_error_is_one_line_and_exit_code_2(capsys):
    def main(argv):
        raise UserError("got\n  this, expected that")

    assert call(main) == 2
    assert capsys.readouterr().err == "error: got this, expected that\n"


def test_what_the_system_refuses_is_one_line(capsys):
    def main(argv):
        Path("a" * 300).read_text()

    assert call(main) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: File name too long: aaa") and error.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    def main(argv):
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        call(main)


def test_missing_file_error_is_both_kinds():
    error = MissingFileError("no file here")
    assert isinstance(error, FileNotFoundError) and isinstance(error, UserError)
    assert str(error) == "no file here"
