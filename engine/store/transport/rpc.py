"""The interface of a transport, which makes PostgreSQL and Supabase's REST API interchangeable."""

from typing import Any, Protocol


class Rpc(Protocol):
    """Calls the database's functions by name.

    `arguments` are named without the functions' ``p_`` prefix: None, str, bool, numbers, UUID, datetime, or JSON as
    dicts and lists. The value back is parsed JSON, with Decimal for numbers that are not whole.

    Raises DatabaseUnavailable for temporary failures, and ConfigurationError for what a person must
    fix (missing migration, missing rights, an argument that the schema rejects).
    """

    def call(self, function: str, /, **arguments: object) -> Any: ...

    def close(self) -> None: ...
