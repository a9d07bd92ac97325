"""Settings as YAML that ``--config`` takes."""

import dataclasses

import yaml

from cpsd.config import RunConfig


def as_yaml(config: RunConfig) -> str:
    """Return the whole configuration as YAML."""
    plain = dataclasses.asdict(config)
    plain["partition"]["strategies"] = list(config.partition.strategies)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
