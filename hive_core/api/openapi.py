"""The OpenAPI 3.1 document of a socket, made from its table of endpoints."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from hive_core import __version__
from hive_core.api.endpoint import Endpoint
from hive_core.protocol import Answer, ErrorAnswer
from hive_core.protocol.names import NAME_PATTERN, REPOSITORY_PATTERN

_REFERENCE = "#/components/schemas/{model}"
_PARAMETERS = {
    "name": {"type": "string", "pattern": NAME_PATTERN},
    "repo": {"type": "string", "pattern": REPOSITORY_PATTERN},
    "id": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    "number": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    "file": {"type": "integer", "minimum": 0, "maximum": 10**9 - 1},
}


def describe(title: str, endpoints: list[Endpoint]) -> dict[str, Any]:
    """Return the document; every endpoint may also answer with an error."""
    used: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ErrorAnswer, "serialization")]
    for endpoint in endpoints:
        if endpoint.body:
            used.append((endpoint.body, "validation"))
        if isinstance(endpoint.answer, type):
            used.append((endpoint.answer, "serialization"))
    references, schemas = models_json_schema(list(dict.fromkeys(used)), ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation: dict[str, Any] = {
            "summary": endpoint.summary,
            "operationId": _operation_id(endpoint),
            "parameters": _parameters(endpoint),
            "responses": {
                "200": {"description": "Done", "content": _content(endpoint.answer, references)},
                "default": {"description": "Refused", "content": _content(ErrorAnswer, references)},
            },
        }
        if endpoint.body:
            schema = references[endpoint.body, "validation"]
            # No body at all counts as an empty object.
            required = any(field.is_required() for field in endpoint.body.model_fields.values())
            operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": paths,
        "components": {"schemas": _closed(schemas.get("$defs", {}))},
    }


def _closed(schema: Any) -> Any:
    """Close tables with a pattern for their keys to all other keys, which pydantic leaves out."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closing = {"additionalProperties": False} if "patternProperties" in schema else {}
    return {**closing, **{key: _closed(part) for key, part in schema.items()}}


def _content(answer: type[Answer] | str, references: Any) -> dict[str, Any]:
    if isinstance(answer, str):
        return {answer: {"schema": {"type": "object" if answer == "application/json" else "string"}}}
    return {"application/json": {"schema": references[answer, "serialization"]}}


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    if endpoint.query:
        schema = endpoint.query.model_json_schema()
        required = schema.get("required", [])
        for name, field in schema["properties"].items():
            found.append({"name": name, "in": "query", "required": name in required, "schema": _without_null(field)})
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from a schema, because a query string cannot express it."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    if not kinds:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**kinds[0], **rest} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def _operation_id(endpoint: Endpoint) -> str:
    words = re.sub(r"[^a-z]+", "_", endpoint.path.removeprefix("/v1").lower()).strip("_")
    return f"{endpoint.method.lower()}_{words}"
