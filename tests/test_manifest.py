import json
import platform
from pathlib import Path

import numpy as np
import torch

import cpsd
from cpsd.config import RunConfig
from cpsd.data.records import Records
from cpsd.labels import LabelSpace
from cpsd.manifest import PACKAGES, run_facts


def test_facts_name_versions_seed_data_and_hardware() -> None:
    records = Records(
        paths=("a", "b", "c"),
        targets=np.zeros((3, 2), dtype=np.int8),
        labels=LabelSpace(("x", "y")),
        splits=("train", "test", "train"),
        root=Path(),
        origins=("1", "2", "3"),
    )
    facts = json.loads(json.dumps(run_facts(RunConfig(seed=6), records, ["drawn"])))
    assert facts["seed"] == 6
    assert facts["data"] == {
        "fingerprint": records.fingerprint(),
        "labels": 2,
        "pictures": {"test": 1, "train": 2},
        "notices": ["drawn"],
    }
    assert set(facts["versions"]) == {"python", *PACKAGES}
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["hardware"]["torch_threads"] == torch.get_num_threads()
    # Nothing of the machine's paths or user is written down.
    assert str(Path(cpsd.__file__).parent) not in json.dumps(facts)
