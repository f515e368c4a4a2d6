"""Case of words that senders write, for ASCII only: some letters of other alphabets become ASCII when it changes."""


def upper(value: object) -> str | None:
    """`value` in upper case, without the blanks around it; None when it is no text in ASCII."""
    return value.strip().upper() if isinstance(value, str) and value.isascii() else None


def lower(value: object) -> str | None:
    """As `upper`, in lower case."""
    return value.strip().lower() if isinstance(value, str) and value.isascii() else None
