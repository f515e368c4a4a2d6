"""What the children's processes inherit: a place in the system, and no secret. Settings reach them another way."""

from collections.abc import Mapping
from typing import Final

_NAMES: Final = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TERM",
        "COLORTERM",
        "NO_COLOR",
        "FORCE_COLOR",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "VIRTUAL_ENV",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    }
)
_BEGINNINGS: Final = ("LC_", "LD_", "MALLOC_", "PYTHON", "COVERAGE_", "COV_CORE_")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that children may have: known to be needed, whatever else this host's people keep there."""
    return {name: value for name, value in environ.items() if name.upper() in _NAMES or name.startswith(_BEGINNINGS)}
