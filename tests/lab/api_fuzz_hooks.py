"""What schemathesis must know about the API. Loaded by its command, by SCHEMATHESIS_HOOKS."""

from typing import Any

import schemathesis

FORM = "multipart/form-data"


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Replace the kinds of a form by one of them: schemathesis 4.32 fails on files in a `oneOf`."""
    schemas = raw_schema["components"]["schemas"]
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            if FORM in content:
                kinds = schemas[content[FORM]["schema"]["$ref"].rpartition("/")[2]]["oneOf"]
                content[FORM]["schema"] = kinds[-1]
