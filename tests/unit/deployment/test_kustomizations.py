"""What can be said of the kustomizations without a cluster: nothing is forgotten, and all names fit."""

from pathlib import Path

import pytest
import yaml

from tests.support.deployment_manifests import BASE, CONFIG_FOLDER, ROOT, SETTINGS, VOLUMES, mounts, read

KUSTOMIZATIONS = sorted(
    p.parent for p in [ROOT / "config" / "kustomization.yaml", *BASE.parent.rglob("kustomization.yaml")]
)
ALL_CONTAINERS = ["journal", "check", "serve", "work"]


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_no_manifest_is_forgotten_by_its_kustomization(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    generated = [file for generator in kustomization.get("configMapGenerator", []) for file in generator["files"]]
    patches = [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]
    named = {*kustomization.get("resources", []), *generated, *patches, *kustomization.get("configurations", [])}

    own = (file.relative_to(folder) for file in folder.rglob("*.yaml"))
    unnamed = {str(file) for file in own if file.name != "kustomization.yaml" and file.parts[0] != "secrets"} - named

    assert not {name for name in named if not (folder / name).exists()}
    assert not unnamed


def test_every_template_of_the_configuration_is_deployed_where_the_configuration_expects_it() -> None:
    (config, templates) = yaml.safe_load((ROOT / "config" / "kustomization.yaml").read_text())["configMapGenerator"]
    served = {volume["configMap"]["name"]: name for name, volume in VOLUMES.items() if "configMap" in volume}
    deployed = {CONFIG_FOLDER / "pipelineruns" / Path(file).name for file in templates["files"]}

    assert config["files"] == ["receiver.yaml"]
    assert {CONFIG_FOLDER / trigger.template for trigger in SETTINGS.triggers} == deployed
    for container in ALL_CONTAINERS:
        assert mounts(container)[str(CONFIG_FOLDER / "receiver.yaml")] == served[config["name"]]
        assert mounts(container)[str(CONFIG_FOLDER / "pipelineruns")] == served[templates["name"]]


def test_the_namespaces_are_those_of_the_configuration_and_of_the_runs() -> None:
    runs = read(ROOT / "k8s" / "striv" / "namespace.yaml")[0]["metadata"]["name"]
    objects = [o for path in sorted(BASE.glob("*.yaml")) if path.name != "kustomization.yaml" for o in read(path)]
    worker = [o for o in objects if o["kind"] in ("Role", "RoleBinding")]

    assert SETTINGS.cluster.namespace == runs
    assert [o["metadata"]["namespace"] for o in worker] == [runs, runs]
    namespaces = {o["metadata"].get("namespace") for o in objects if o not in worker and o["kind"] != "Namespace"}
    assert namespaces == {"striv-receiver"}
