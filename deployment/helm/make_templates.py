"""Makes the chart's templates of the rendered overlays, so that both are the same objects.

usage: python deployment/helm/make_templates.py
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
RENDERED = HERE.parent / "kubernetes" / "rendered"
TEMPLATES = HERE / "pyrelay" / "templates"

API_SERVER = """\
  - ports:
    - port: 6443
      protocol: TCP
    to:
    - ipBlock:
        cidr: 192.0.2.1/32
"""
API_SERVERS = """\
{{- range .Values.apiServers }}
  - ports:
    - port: {{ .port }}
      protocol: TCP
    to:
    - ipBlock:
        cidr: {{ .cidr | quote }}
{{- end }}
"""
NETWORK = """\
{{- if ne .Values.network "mainnet" }}
\\1- --network={{ .Values.network }}
{{- end }}
"""
# What is found, how often at least, and what takes its place.
CHANGES = (
    (r"image: pyrelay:\S+", 3, "image: {{ .Values.image | quote }}"),
    (r"image: pyrelay-tor:\S+", 1, "image: {{ .Values.torImage | quote }}"),
    (r"namespace: gethrelay$", 10, "namespace: {{ .Release.Namespace }}"),
    (r"replicas: 3$", 0, "replicas: {{ .Values.replicas }}"),
    (r"storage: 1Gi$", 1, "storage: {{ .Values.storage }}"),
    (r"metadata.name: monitoring$", 1, "metadata.name: {{ .Values.monitoringNamespace }}"),
    (r'^  BOOTNODES: ""$', 0, "  BOOTNODES: {{ .Values.federation.bootnodes | quote }}"),
    (r'^  DNS_LISTS: ""$', 0, "  DNS_LISTS: {{ .Values.federation.dnsLists | quote }}"),
    (r'^  JOIN: ""$', 0, "  JOIN: {{ .Values.federation.join | quote }}"),
    (r"^( *)- --metrics\.port=6060\n((?: *- --.*\n)*)", 1, rf"\1- --metrics.port=6060\n\2{NETWORK}"),
)  # fmt: skip


def template(overlay: str) -> str:
    """Return the template of one overlay."""
    documents = (RENDERED / f"{overlay}.yaml").read_text().split("---\n")
    text = "---\n".join(each for each in documents if "\nkind: Namespace\n" not in f"\n{each}")
    if text.count(API_SERVER) != 1:
        raise ValueError(f"{overlay}: the rule for the API server is not as it was")
    text = text.replace(API_SERVER, API_SERVERS.lstrip("\n"))
    for pattern, least, words in CHANGES:
        text, count = re.subn(pattern, words, text, flags=re.MULTILINE)
        if count < least:
            raise ValueError(f"{overlay}: {pattern} is found {count} times")
    return f'{{{{- if eq .Values.overlay "{overlay}" }}}}\n{text}{{{{- end }}}}\n'


def main() -> None:
    """Write all of them."""
    for each in sorted(RENDERED.glob("*.yaml")):
        (TEMPLATES / each.name).write_text(template(each.stem))


if __name__ == "__main__":
    main()
