"""Errors that a user can correct: what was got, what was expected, what to do."""


class UserError(ValueError):
    """A wrong input of the user's. Command lines print it as one line and exit with code 2."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that is not there; the message says where it was looked for."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
