"""A refusal by the venue: ``{"code": -1121, "msg": "Invalid symbol."}`` with a 4xx status."""


class VenueApiError(Exception):
    """`code` is one of Aster's error codes, `status` of HTTP."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
