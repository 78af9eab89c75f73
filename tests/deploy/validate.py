"""Kubernetes manifests on standard input -> what is wrong with them; exit code 1 if anything is.

Arguments are versions of Kubernetes. Kinds of the Prometheus operator, which Kubernetes' own schemas lack,
are held against operator.schema.json beside this file.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

OPERATOR = json.loads((pathlib.Path(__file__).parent / "operator.schema.json").read_text(encoding="utf-8"))


class Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML readers silently drop one."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {', '.join(twice)} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def problems(document: dict, versions: list[str]):
    name = f"{document['kind']}/{document['metadata']['name']}"
    try:
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            jsonschema.validate(document, OPERATOR, cls=jsonschema.Draft202012Validator)
        else:
            for version in versions:
                kubernetes_validate.validate(document, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        yield f"{name}: {'.'.join(str(part) for part in error.path)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{name}: {error.message}"


def main() -> int:
    documents = [document for document in yaml.load_all(sys.stdin, Loader) if document]
    found = [problem for document in documents for problem in problems(document, sys.argv[1:])]
    for problem in found:
        print(problem)
    names = [f"{document['kind']}/{document['metadata']['name']}" for document in documents]
    for name in {name for name in names if names.count(name) > 1}:
        print(f"{name} is there twice")
        found.append(name)
    if not found:
        print("\n".join(names))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
