"""Upper and lower case of ASCII words: str.upper would turn some letters of other alphabets into ASCII ones."""


def upper(value: object) -> str | None:
    """`value` in upper case and stripped; None when it is no ASCII text."""
    return value.strip().upper() if isinstance(value, str) and value.isascii() else None


def lower(value: object) -> str | None:
    """As `upper`, in lower case."""
    return value.strip().lower() if isinstance(value, str) and value.isascii() else None
