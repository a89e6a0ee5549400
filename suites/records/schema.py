"""The schema of result files as JSON Schema, for readers that are not this suite."""

import json

from suites.records.record import SCHEMA_VERSION, ResultFile

FILE = f"schema/v{SCHEMA_VERSION}.json"


def schema_text() -> str:
    """What results/schema holds; `sha256` is the digest of everything else in a file."""
    schema = ResultFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["sha256"] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    schema["required"] = sorted([*schema["required"], "schema_version", "sha256"])
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
