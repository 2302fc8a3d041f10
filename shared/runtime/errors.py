"""Error messages for people."""


def innermost(error: BaseException) -> BaseException:
    """The first error inside nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def words(error: BaseException) -> str:
    """The error's message, with the file's name if it concerns one. Never empty: falls back to the error's type."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = str(error).strip()
    if text:
        return text
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return type(error).__name__
