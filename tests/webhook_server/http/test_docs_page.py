"""The page at /docs shows the whole OpenAPI document, escaped, and neither runs nor fetches anything."""

import base64
import hashlib
import html
import re

import requests

from tests.webhook_server.conftest import Site
from webhook_server.http import docs_page
from webhook_server.intake.fields import DECIMAL_TEXT


def test_the_page_for_people_tells_the_same_and_neither_runs_nor_fetches_anything(site: Site) -> None:
    page = requests.get(f"{site.url}/docs", timeout=60)
    described = requests.get(f"{site.url}/openapi.json", timeout=60).json()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}<" in page.text
            assert all(html.escape(answer["description"]) in page.text for answer in operation["responses"].values())
    assert not re.search(r"<script|<img|<link|<iframe|\bon\w+=|src=|url\(|@import|//", page.text)
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    (style,) = re.findall("<style>(.*?)</style>", page.text)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (policy["default-src"], policy["style-src"]) == ("'none'", f"'sha256-{digest}'")
    assert not policy.keys() & {"script-src", "connect-src", "img-src"}


def test_text_of_the_document_is_escaped_and_null_is_left_out() -> None:
    schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 1e-8}, DECIMAL_TEXT, {"type": "null"}]}
    body = {
        "properties": {"<size>": {**schema, "description": "a & b", "examples": ["1", "2"]}},
        "required": ["<size>"],
    }
    response = {
        "description": "<done>",
        "content": {"application/json": {"schema": {"oneOf": [{"$ref": "#/x/Done"}, {"$ref": "#/x/Not"}]}}},
    }
    models = {
        "Done": {"properties": {"success": {"const": True}, "price": {"type": "number"}}},
        "Not": {"properties": {"success": {"const": False}}},
    }
    page = docs_page.render(
        {
            "info": {"title": "<title>"},
            "components": {"schemas": models},
            "paths": {
                "/<path>": {
                    "post": {
                        "description": "<why>",
                        "requestBody": {"content": {"application/json": {"schema": body}}},
                        "responses": {"200": response},
                    }
                }
            },
        }
    )
    for text in ("<title>", "<path>", "<why>", "<size>", "<done>", "a & b"):
        assert html.escape(text) in page
        assert text == "a & b" or text not in page.replace("<title>&lt;title&gt;</title>", "")
    assert "<td>number &gt; 0.00000001 or number as text</td><td>required; a &amp; b; such as 1 or 2</td>" in page
    assert "{success: true, price} or {success: false}" in page
