import pytest

from cpsd import errors
from cpsd.errors import did_you_mean

KINDS = (
    "ConfigError",
    "DataError",
    "PartitionError",
    "ModelError",
    "RunError",
    "AddressError",
    "TrainingError",
)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_a_user_error_and_a_builtin_one(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.UserError)
    assert issubclass(kind, errors.CpsdError)
    assert issubclass(kind, ValueError) != issubclass(kind, RuntimeError)


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("bycicle", ("bicycle", "car"), " Did you mean 'bicycle'?"),
        ("PERSON", ("Person", "car"), " Did you mean 'Person'?"),
        ("zebra", ("bicycle", "car"), ""),
        ("car", (), ""),
    ],
)
def test_the_nearest_name_is_offered(name: str, choices: tuple[str, ...], hint: str) -> None:
    assert did_you_mean(name, choices) == hint
