"""What is wrong with what the user gave, in one sentence: the thing, its value, the remedy."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input or usage. The message is one sentence a user can act on.

    The command line prints it without a traceback and exits with 2.
    """


class DecodeError(InputError):
    """A video (or a folder of frames) that cannot be read as it should.

    ``path`` is the file and ``reason`` the sentence that says what is wrong with it, so that
    reports can count and group failures without parsing the message.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        # Exceptions cross process borders; the default would call __init__ with the message alone.
        return type(self), (self.path, self.reason)
