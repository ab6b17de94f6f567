"""The Helm chart gives the overlays' objects by a reader of its directives; by helm itself: tests/interop."""

from __future__ import annotations

import json
import re
import runpy

import pytest
import yaml

from tests.aids.chart import CHART, HELM, VALUES, chart, ours, render
from tests.aids.manifests import OVERLAYS, of_kind

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


@overlays
def test_the_chart_gives_the_same_objects(overlay: str) -> None:
    assert chart(overlay) == ours(overlay)


@overlays
def test_templates_are_what_the_generator_makes(overlay: str) -> None:
    template = runpy.run_path(str(HELM / "make_templates.py"))["template"]
    assert (CHART / "templates" / f"{overlay}.yaml").read_text() == template(overlay), "run make_templates.py"


@overlays
def test_values_are_where_they_belong(overlay: str) -> None:
    servers = [{"cidr": "10.0.0.5/32", "port": 6443}, {"cidr": "10.96.0.1/32", "port": 443}]
    objects = chart(overlay, network="hoodi", replicas=7, image="r/p:2", torImage="r/t:3", apiServers=servers)
    (policy,) = [
        each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == "api-server"
    ]
    found = [
        (each["to"][0]["ipBlock"]["cidr"], each["ports"][0]["port"]) for each in policy["spec"]["egress"]
    ]
    assert found == [("10.0.0.5/32", 6443), ("10.96.0.1/32", 443)]
    for each in of_kind(objects, "StatefulSet"):
        spec = each["spec"]["template"]["spec"]
        for container in [*spec["initContainers"], *spec["containers"]]:
            assert container["image"] in ("r/p:2", "r/t:3")
            assert ("--network=hoodi" in container.get("args", [])) is (container["name"] == "pyrelay")
        if each["metadata"]["name"] == "gethrelay-only-onion":
            assert each["spec"]["replicas"] == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlay": "x"},
        {"image": "pyrelay"},
        {"image": "pyrelay:latest"},
        {"replicas": -1},
        {"apiServers": []},
        {"apiServers": [{"cidr": "0.0.0.0/0", "port": 443}]},
        {"network": "main"},
        {"storage": "1"},
        {"more": 1},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_wrong(wrong: dict[str, object]) -> None:
    schemas = pytest.importorskip("jsonschema")
    schema = json.loads((CHART / "values.schema.json").read_text())
    schemas.validate(VALUES, schema)
    digest = "registry.example:5000/pyrelay@sha256:" + "a" * 64
    schemas.validate({**VALUES, "image": digest, "torImage": "localhost:5000/tor:1.2"}, schema)
    with pytest.raises(schemas.ValidationError):
        schemas.validate({**VALUES, **wrong}, schema)


def test_what_is_said_after_an_install_names_the_namespace() -> None:
    notes = render((CHART / "templates" / "NOTES.txt").read_text(), VALUES, namespace="elsewhere")
    assert "kubectl get configmap tor-peer-addresses -n elsewhere -o yaml" in notes
    assert "gethrelay" not in notes
    assert "{{" not in notes


def test_chart_and_image_have_the_version_of_the_package() -> None:
    meta = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.*)"', (HELM.parents[1] / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert meta["version"] == meta["appVersion"] == version[1]
    assert VALUES["image"] == f"pyrelay:{version[1]}"
