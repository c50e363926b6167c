"""The one kind of error that a user can mend. The front door shows it as a line, no traceback."""


class InputError(ValueError):
    """Input that cannot be used. The message names the file or the value, and says what to do."""


def first_line(error: Exception) -> str:
    """What ``error`` says first. Torch says nothing at all about an empty file."""
    return str(error).partition("\n")[0] or type(error).__name__
