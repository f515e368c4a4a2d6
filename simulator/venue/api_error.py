"""Aster's way to say no: ``{"code": -1121, "msg": "Invalid symbol."}`` with a 4xx status."""


class VenueApiError(Exception):
    """`code` as in Aster's list of error codes."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
