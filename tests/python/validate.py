"""Holds JSON against schemas, with a validator that nobody here wrote.

Standard input: a line with {name: schema}, then a line {"schema": name, "value": …} for each value. Standard output: a
line for each value, a JSON array of what is wrong with it. Before that, every schema is held against its own.
"""

import json
import sys

from jsonschema.validators import validator_for


def main() -> None:
    schemas = json.loads(sys.stdin.readline())
    validators = {}
    for name, schema in schemas.items():
        kind = validator_for(schema)
        kind.check_schema(schema)
        validators[name] = kind(schema, format_checker=kind.FORMAT_CHECKER)
    for line in sys.stdin:
        case = json.loads(line)
        errors = validators[case["schema"]].iter_errors(case["value"])
        print(json.dumps([f"{error.json_path}: {error.message[:300]}" for error in errors]))


main()
