"""What a person is told of an exception."""


def innermost(error: BaseException) -> BaseException:
    """The error itself, out of the groups that task groups wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def words(error: BaseException) -> str:
    """Its text, for a file with the name in front; never empty: an error without a text is called by its kind."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = str(error).strip()
    if text:
        return text
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return type(error).__name__
