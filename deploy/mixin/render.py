"""deploy/mixin -> deploy/grafana: renders the dashboards; with --check only says which differ.

Needs the Python package jsonnet; `cargo xtask setup` puts it under target/tools/python.
"""

import json
import pathlib
import sys

import _jsonnet

HERE = pathlib.Path(__file__).resolve().parent
RENDERED = HERE.parent / "grafana"


def main() -> int:
    dashboards = json.loads(_jsonnet.evaluate_file(str(HERE / "dashboards.jsonnet")))
    stale = []
    for name, dashboard in sorted(dashboards.items()):
        text = json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
        path = RENDERED / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"deploy/grafana/{name} is not what deploy/mixin renders; run deploy/mixin/render.py")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
