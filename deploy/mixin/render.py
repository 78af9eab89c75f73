"""deploy/mixin and deploy/prometheus -> every file that is made of them.

Dashboards into deploy/grafana; rules as an object for the Prometheus operator; both into the chart, which
can hold no file from outside its folder. With --check it only says what is out of date.

Needs the Python package jsonnet; `cargo xtask setup` puts it under target/tools/python.
"""

import json
import pathlib
import sys

import _jsonnet

HERE = pathlib.Path(__file__).resolve().parent
DEPLOY = HERE.parent
CHART = DEPLOY / "helm/rotameter/files"
OPERATOR = DEPLOY / "kubernetes/components/monitoring/prometheusrule.yaml"

OPERATOR_HEAD = """\
# The rules of deploy/prometheus, for the Prometheus operator. Made by deploy/mixin/render.py.
# Links to runbooks are paths in the repository. To make URLs of them, put in front where your people read it:
#   sed -i 's|runbook_url: docs/|runbook_url: https://git.example.com/rotameter/docs/|' prometheusrule.yaml
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: rotameter
  labels:
    release: kube-prometheus-stack
spec:
  groups:
"""


def made() -> dict[pathlib.Path, str]:
    files = {}
    dashboards = json.loads(_jsonnet.evaluate_file(str(HERE / "dashboards.jsonnet")))
    for name, dashboard in dashboards.items():
        text = json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
        files[DEPLOY / "grafana" / name] = text
        files[CHART / name] = text
    groups = []
    for path in sorted((DEPLOY / "prometheus").glob("*.rules.yml")):
        text = path.read_text(encoding="utf-8")
        files[CHART / path.name] = text
        groups += text.split("groups:\n", 1)[1].splitlines(keepends=True)
    files[OPERATOR] = OPERATOR_HEAD + "".join("  " + line if line.strip() else line for line in groups)
    return files


def main() -> int:
    stale = {path: text for path, text in made().items() if not path.exists() or path.read_text(encoding="utf-8") != text}
    for path, text in stale.items():
        print(f"{path.relative_to(DEPLOY.parent)} is not what deploy/mixin/render.py makes of its source")
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
