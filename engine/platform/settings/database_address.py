"""DATABASE_URL as people copy it: what cannot work is named with what to write instead. No value is ever shown.

libpq takes what stands before the first `@` for the login, so that an unescaped character in a password makes it look
for a host by the rest of the password, and say so.
Format: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import SecretStr

_EXAMPLE: Final = "postgresql://user:password@host:5432/database"
_QUOTES: Final = frozenset("\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb")
_ESCAPES: Final = {"@": "%40", "#": "%23", "/": "%2F", "?": "%3F"}
_SCHEMES: Final = {"postgresql", "postgres"}
_MAX_PORT: Final = 65_535
_PORT: Final = "has a port that is no number from 1 to 65535"
_PASSWORD_PLACEHOLDER: Final = re.compile(
    r"\[[A-Z][A-Z_ -]*\]|<[A-Za-z][A-Za-z _-]*>|\$?\{[A-Za-z_]+\}|\{\{.*\}\}|\$[A-Z][A-Z0-9_]{2,}|\*{3,}"
)
_PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z_ -]*\]|<[^>]*>|\$\{[^}]*\}|\{\{[^}]*\}\}")

_URL: Final = re.compile(
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]*)(?:/(?P<database>[^?#/]*))?(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(?::(?P<port>.*))?")
_PAIR: Final = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)")

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "gssencmode": ("disable", "prefer", "require"),
    "channel_binding": ("disable", "prefer", "require"),
    "sslnegotiation": ("postgres", "direct"),
    "load_balance_hosts": ("disable", "random"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
_NUMBERS: Final = {"connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"}


def database_address(value: SecretStr) -> SecretStr:
    """A connection string of PostgreSQL, as an address or as `name=value` pairs. Raises ValueError."""
    fault = fault_of(value.get_secret_value())
    if fault is not None:
        raise ValueError(fault)
    return value


def fault_of(text: str) -> str | None:
    """What is wrong with a connection string and what to write instead, without a subject; None if it may work."""
    return _around(text) or _of_scheme(text) or _inside(text)


def _around(text: str) -> str | None:
    if text[:1] in _QUOTES or (text[-1:] in _QUOTES and "://" in text):
        return "has quotation marks around it: leave them away"
    if re.match(r"(export\s+)?[A-Z][A-Z0-9_]{3,}=", text):
        return "begins with the name of a setting, such as DATABASE_URL=: leave that away"
    if re.match(r"psql\s", text):
        return "begins with the command psql: give the address alone"
    if not text.isprintable():
        return "holds a line break or an invisible character: type it again"
    return None


def _of_scheme(text: str) -> str | None:
    if text.startswith("jdbc:"):
        return f"begins with jdbc:, which is Java's way: write {_EXAMPLE}"
    scheme, slashes, _ = text.partition("://")
    if not slashes or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        is_pairs = re.match(r"\s*\w+\s*=", text) is not None
        return None if is_pairs else f"is no connection string: write {_EXAMPLE}"
    return None if scheme in _SCHEMES else _of_other_scheme(scheme)


def _of_other_scheme(scheme: str) -> str:
    if scheme.lower() in _SCHEMES:
        return f"begins with {scheme}://, which must be in small letters: write postgresql://"
    if scheme.lower() in {"http", "https"}:
        return f"is an address of the web: a Supabase project's is for SUPABASE_URL; a database's is {_EXAMPLE}"
    if scheme.partition("+")[0] in _SCHEMES:
        return f"begins with {scheme}://, which names another program's driver: write postgresql://"
    return f"begins with {scheme}://, and Sparky needs a PostgreSQL: write {_EXAMPLE}"


def _inside(text: str) -> str | None:
    scheme, slashes, body = text.partition("://")
    if not slashes or scheme not in _SCHEMES:
        return _of_pairs(text)
    if " " in body:
        return "holds a blank: leave it away; in a password or a name it is written %20"
    found = _URL.fullmatch(body)
    if found is None or _is_cut_short(found):
        return _of_characters(body)
    parts = {name: part or "" for name, part in found.groupdict().items()}
    return (
        _of_placeholders(parts) or _of_percents(body) or _of_hosts(parts["hosts"]) or _of_query(parts)
    )  # in this order: a placeholder is no bad host


def _is_cut_short(found: re.Match[str]) -> bool:
    """Whether an @ stands behind what only looks like the end of the hosts: that was within the password."""
    database, query = found["database"] or "", found["query"] or ""
    return found["user"] is None and ("@" in database or "@" in query.partition("=")[0])


def _of_characters(body: str) -> str:
    login, at, _ = body.rpartition("@")
    inside = [sign for sign in _ESCAPES if sign in login] if at else []
    if not inside:
        return "holds # or / where none may stand: behind the host there is one / and the database's name"
    written = ", ".join(f"{sign} as {_ESCAPES[sign]}" for sign in inside)
    return f"has a password (or a user) with characters that must be written otherwise: {written}"


def _of_placeholders(parts: Mapping[str, str]) -> str | None:
    password = parts["password"]
    if password == "[YOUR-PASSWORD]":  # noqa: S105 - nobody's
        return "still says [YOUR-PASSWORD]: put the database's password there"
    if _PASSWORD_PLACEHOLDER.fullmatch(password):
        first = password[0]
        return (
            "has a placeholder for the password: put the password itself there; "
            f"one that looks so has its first {first} written %{ord(first):02X}"
        )
    if any(_PLACEHOLDER.search(parts[name]) for name in ("user", "hosts", "database")):
        return "has a placeholder in it, such as [YOUR-PROJECT-REF]: put the value itself there"
    return None


def _of_percents(body: str) -> str | None:
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", body):
        return "has a % that begins no code: in a password it is written %25"
    return None


def _of_hosts(hosts: str) -> str | None:
    for host in hosts.split(","):
        found = _HOST.fullmatch(host)
        if found is None or (":" in (found["port"] or "") and re.fullmatch(r"[0-9A-Fa-f:.]+", host)):
            return "has an IPv6 address that must stand in brackets, as in [2001:db8::1]:5432"
        if found["port"] and not _is_port(found["port"]):
            return _PORT
    return None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_PORT


def _of_query(parts: Mapping[str, str]) -> str | None:
    pairs = [pair.partition("=") for pair in parts["query"].split("&") if pair]
    given = {name: value for name, _, value in pairs if (name, value) != ("ssl", "true")}  # libpq takes that from Java
    return _of_parameters(given) or (None if parts["database"] or _names_database(given) else _NO_NAME_IN_URL)


def _of_pairs(text: str) -> str | None:
    given: dict[str, str] = {}
    place = 0
    while text[place:].strip():
        found = _PAIR.match(text, place)
        if found is None:
            return "is not of the form name=value name=value; a value with a blank stands in single quotes"
        given[found[1]] = found[2].strip("'")
        place = found.end()
    return _of_parameters(given) or (None if _names_database(given) else "names no database: add dbname=NAME")


_NO_NAME_IN_URL: Final = "names no database: write its name behind the host, as in host:5432/NAME"


def _names_database(given: Iterable[str]) -> bool:
    return not {"dbname", "service"}.isdisjoint(given)


def _of_parameters(given: Mapping[str, str]) -> str | None:
    return next(filter(None, (_of_parameter(name, value) for name, value in given.items())), None)


def _of_parameter(name: str, value: str) -> str | None:
    if name not in _known_options():
        return _unknown(name)
    if name in _CHOICES and value and value not in _CHOICES[name]:
        return f"has a wrong {name}, which is one of {', '.join(_CHOICES[name])}"
    if name == "port" and not all(not port or _is_port(port) for port in value.split(",")):
        return _PORT
    if name in _NUMBERS and not re.fullmatch(r"-?\d{1,9}", value):
        return f"has a {name} that is no whole number"
    return None


def _unknown(name: str) -> str:
    if name == "ssl":
        return "has the parameter ssl: write sslmode=require"
    if not re.fullmatch(r"[A-Za-z_-]{1,40}", name):
        return "has something behind the ? that is no parameter: a ? in a password is written %3F"
    close = difflib.get_close_matches(name, _known_options(), n=1, cutoff=0.75)
    hint = f"did you mean {close[0]}?" if close else "leave it away; behind a pooler nothing must be said"
    return f"has the parameter {name}, which PostgreSQL does not know: {hint}"


def _known_options() -> frozenset[str]:
    from psycopg import pq  # not for those who name no database

    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())
