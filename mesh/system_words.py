"""What the system says of a call of its own that failed, as a person reads it."""

import errno
import os
import ssl


def system_words(error: BaseException) -> str:
    """`Connection refused`, `No such file or directory`: the cause alone, as the sentence around it says of what.

    An error that the system has no words for has its own; that may be none.
    """
    return _words(error) or str(error)


def safe_words(error: BaseException) -> str:
    """The same where an error's own text could tell what nobody should see: then there is its class instead."""
    return _words(error) or type(error).__name__


def _words(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError) or error.errno is None:
        return None
    return os.strerror(error.errno) if error.errno in errno.errorcode else error.strerror
