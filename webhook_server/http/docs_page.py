"""The page at /docs: the OpenAPI document as static HTML.

FastAPI's own page loads scripts from a CDN. A server that handles money serves no third party's scripts, and its host
may have no network: this page has one inline style, and its Content-Security-Policy allows nothing else.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from webhook_server.intake.fields import DECIMAL_TEXT, WHOLE_TEXT

_STYLE: Final = (
    "body{font:15px/1.5 sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #bbb;padding:.2rem .5rem;text-align:left;"
    "vertical-align:top}code{font-size:14px}h2{margin-top:2.5rem}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render(openapi: Mapping[str, Any]) -> str:
    """The whole page. `openapi` is an OpenAPI 3.1 document that has references for response bodies only."""
    title = escape(str(openapi["info"]["title"]))
    models = openapi["components"]["schemas"]
    parts = [part for path, methods in openapi["paths"].items() for part in _render_operations(path, methods, models)]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    body = f'<h1>{title}</h1><p>For programs: <a href="openapi.json">openapi.json</a></p>{"".join(parts)}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'


def _render_operations(path: str, methods: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    for method, operation in methods.items():
        yield f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
        headers = [(each["name"], _describe_type(each["schema"]), "") for each in operation.get("parameters", ())]
        yield _render_table(("Header", "Type", ""), headers)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        yield _render_table(("Field", "Type", ""), _field_rows(body))
        responses = operation["responses"].items()
        rows = [
            (status, response["description"], " or ".join(_list_body_shapes(response, models)))
            for status, response in responses
        ]
        yield _render_table(("Status", "When", "JSON body"), rows)


def _field_rows(body: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    required = body.get("required", ())
    properties = body.get("properties", {}).items()
    return [
        (name, _describe_type(schema), _field_note(schema, is_required=name in required)) for name, schema in properties
    ]


def _field_note(schema: Mapping[str, Any], *, is_required: bool) -> str:
    examples = " or ".join(schema.get("examples", ()))
    notes = [
        "required" if is_required else "",
        schema.get("description", ""),
        f"such as {examples}" if examples else "",
    ]
    return "; ".join(note for note in notes if note)


def _list_body_shapes(response: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    """Each shape that the body may have, by the names of its fields."""
    schema = response["content"]["application/json"]["schema"]
    for shape in schema.get("oneOf") or schema.get("anyOf") or [schema]:
        properties = models[shape["$ref"].rpartition("/")[2]]["properties"]
        names = (
            f"{name}: {json.dumps(each['const'])}" if "const" in each else name for name, each in properties.items()
        )
        yield "{" + ", ".join(names) + "}"


def _describe_type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, without null: every field may be null or left out unless it is required."""
    if "anyOf" in schema:
        return " or ".join(_describe_type(each) for each in schema["anyOf"] if each != {"type": "null"})
    if "enum" in schema:
        return ", ".join(str(each) for each in schema["enum"])
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {_format_bound(schema[name])}" for name, sign in limits.items() if name in schema]
    kind = "number as text" if schema in (DECIMAL_TEXT, WHOLE_TEXT) else schema["type"]
    return " ".join([str(schema.get("format", kind)), *bounds])


def _format_bound(bound: float) -> str:
    """Decimal digits, without an exponent and trailing zeros."""
    return f"{bound:.8f}".rstrip("0").rstrip(".")


def _render_table(head: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    body = "".join(f"<tr>{_render_cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{_render_cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def _render_cells(tag: str, row: tuple[str, str, str]) -> str:
    first, *others = (escape(str(each)) for each in row)
    return f"<{tag}><code>{first}</code></{tag}>" + "".join(f"<{tag}>{each}</{tag}>" for each in others)
