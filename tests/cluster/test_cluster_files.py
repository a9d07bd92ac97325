"""The files that docs/cluster.md gives: they parse, and ask for what the command has."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from cpsd.arguments import parse

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILES = sorted((DOCS / "cluster").iterdir())


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".sh"], ids=lambda p: p.name)
def test_scripts_parse(path: Path) -> None:
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    (command,) = re.findall(r"cpsd\"? (run --executor ray --ray-address) ", path.read_text())
    assert parse([*command.split(), "HERE:6379"])[1].executor == "ray"


def test_the_job_for_kubernetes_is_yaml_whose_command_is_read() -> None:
    job = yaml.safe_load((DOCS / "cluster/kuberay.yaml").read_text(encoding="utf-8"))
    assert job["kind"] == "RayJob"
    program, *words = shlex.split(job["spec"]["entrypoint"])
    verb, arguments = parse(words)
    assert (program, verb, arguments.ray_address) == ("cpsd", "run", "auto")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {arguments.data.root, arguments.out} == {"/shared/coco", "/shared/runs/coco"}
        assert mounts == {"/shared"}
    constraints = (DOCS.parent / "constraints.txt").read_text(encoding="utf-8")
    assert f"ray=={cluster['rayVersion']}\n" in constraints


def test_every_file_is_named_in_the_docs() -> None:
    text = (DOCS / "cluster.md").read_text(encoding="utf-8")
    assert [path.name for path in FILES if f"cluster/{path.name}" not in text] == []
