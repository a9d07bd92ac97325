"""Whatever is in a file: a result or one sentence, no other file opened, no gigabyte, no end.

`make fuzz` does the same for as long as one likes, and guided by coverage.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile_guard import BrokenFenceError, fenced
from hostile_mutations import mangled
from hostile_readers import Target, targets

DATA = ("csv", "tsv", "json lines", "label list", "coco", "voc", "nus-wide", "boxes")
RUN = (
    *("partition", "published", "label graph", "checkpoint", "predictions", "thresholds"),
    *("temperatures", "stage mark", "unfinished", "attempts", "recipe", "run", "picture memory"),
)
GROUPS: dict[str, tuple[Callable[[Target], bool], int]] = {
    "tables and data sets": (lambda t: t.name.startswith(DATA), 60),
    "pictures": (lambda t: t.name.startswith("picture "), 60),
    "packs and soft labels": (lambda t: t.name.startswith(("pack/", "soft/")), 50),
    "model files": (lambda t: t.name.startswith(("model", "weights", "embeddings")), 60),
    "files of a run": (lambda t: t.name.startswith(RUN), 80),
    "pages": (lambda t: t.name.startswith(("report of", "comparison")), 12),
}
"""Which targets there are in a group, and how many files of theirs are mangled."""


@cache
def grouped() -> dict[str, list[Target]]:
    every = targets()
    found = {name: [t for t in every if is_of(t)] for name, (is_of, _) in GROUPS.items()}
    assert {id(t) for group in found.values() for t in group} == {id(t) for t in every}
    return found


def read_mangled(target: Target, content: bytes, folder: Path) -> object:
    """Lay the target's folder anew and read it with ``content`` in its file."""
    target.prepare(folder)
    file = folder / target.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return fenced(folder, lambda: target.read(folder))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", GROUPS)
def test_mangled_files_end_in_a_sentence(
    group: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(
        max_examples=GROUPS[group][1],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(random=st.randoms(use_true_random=False), data=st.data())
    def ends_in_a_sentence(random: Random, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(grouped()[group]))
        content = mangled(random, list(target.seeds), target.file)
        read_mangled(target, content, tmp_path_factory.mktemp("mangled"))

    ends_in_a_sentence()


@pytest.mark.parametrize("group", GROUPS)
def test_sound_files_are_read(group: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    for target in grouped()[group][:: 1 if group != "pages" else 8]:
        for seed in target.seeds:
            result = read_mangled(target, seed, tmp_path_factory.mktemp("sound"))
            assert not isinstance(result, Exception), (target.name, result)


def test_the_fence_holds(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    inside = tmp_path / "inside"
    inside.mkdir()
    for read, said in (
        (lambda: [][0], "IndexError"),
        (lambda: outside.read_bytes(), "opened"),
        (lambda: bytearray(2_000_000_000), "MemoryError"),
    ):
        with pytest.raises(BrokenFenceError, match=said):
            fenced(inside, read)
