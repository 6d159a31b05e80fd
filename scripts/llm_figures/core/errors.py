"""The exception for mistakes of the user."""


class UserError(Exception):
    """A mistake that the user can correct: one line with what is wrong, where, and what to do."""
