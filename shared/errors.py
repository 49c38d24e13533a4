"""Errors that a user can correct: what was got, what was expected, what to do."""

MORE_SHARED_MEMORY = (
    "lower DATALOADER.NUM_WORKERS (0: no such processes), or start the container with more, e.g. "
    "docker run --shm-size=2g"
)


class UserError(ValueError):
    """A wrong input of the user's. Command lines print it as one line and exit with code 2."""


def of_lost_worker(error: RuntimeError) -> UserError | None:
    """The line for a loader process that ended by itself; None for another error.

    PyTorch raises it wherever the main process happens to be.
    """
    if not str(error).startswith("DataLoader worker (pid"):
        return None
    if "Bus error" in str(error):
        return UserError("a loader process found no room in /dev/shm: " + MORE_SHARED_MEMORY)
    if "Killed" in str(error):
        return UserError(
            "a loader process was killed, most likely by the system for lack of memory: use fewer "
            "(DATALOADER.NUM_WORKERS in training) or none; what is finished stays"
        )
    return UserError(
        "a worker process ended too early; it may lack memory, or the calling script its "
        "`if __name__ == '__main__':`; use fewer workers or none; what is finished stays"
    )


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that is not there; the message says where it was looked for."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
