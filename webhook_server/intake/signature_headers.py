"""The headers of Standard Webhooks, under whichever of their two names a sender gives them."""

from collections.abc import Mapping
from typing import Final

from webhook_server.intake.field_errors import FieldError

HEADER_NAMES: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


def with_standard_names(headers: Mapping[str, str]) -> Mapping[str, str]:
    """`headers` (lower-case names) with Svix's own names (`svix-id` …) taken as the standard ones.

    Raises FieldError when the two names of one header say two things.
    """
    found = dict(headers)
    for name in HEADER_NAMES:
        other = name.replace("webhook-", "svix-")
        if other not in found:
            continue
        if found.setdefault(name, found[other]) != found[other]:
            raise FieldError(other, f"differs from {name}, which means the same")
    return found
