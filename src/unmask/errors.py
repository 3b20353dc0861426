"""The one exception for mistakes that a user can make and mend."""


class UserError(Exception):
    """What is wrong, where, and how to mend it, in one line.

    The command prints the line and exits with code 2; no traceback is shown.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
