"""Numbers that others have written."""


def number(text: str, digits: int) -> int | None:
    """The number in at most `digits` ASCII digits; None for any other text.

    `int` alone would take signs, spaces, underscores and the digits of every script, at any length.
    """
    return int(text) if len(text) <= digits and text.isascii() and text.isdigit() else None
