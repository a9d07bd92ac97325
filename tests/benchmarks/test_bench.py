"""The harness of `make bench`: the table, the file of results, and arms in alternation."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TOPIC = """
from harness import Row

def measure(*, smoke):
    size = 3 if smoke else 40
    return [
        Row("sum of a list", float(size), "s", must="<= 3", bound="memory", of_bound=0.5),
        Row("shown beside", 123456.7, "rows/s"),
    ]
"""


@pytest.fixture
def bench(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("bench")


@pytest.fixture
def topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name, source in {
        "tiny_topic": TOPIC,
        "crashing_topic": "def measure(*, smoke):\n    raise ValueError('no such thing')\n",
        "other_topic": TOPIC.replace("sum of a list", "sum of another"),
    }.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return ["tiny_topic", "other_topic"]


def test_smoke_prints_the_table_and_keeps_nothing(
    bench: ModuleType, topics: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    assert bench.main(["--smoke", "--out", str(out)], topics) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| sum of a list | 3 s | <= 3 | yes | memory | 50 % |"
    assert lines[3] == "| shown beside | 123,457 rows/s |  |  |  |  |"
    assert not out.exists()


def test_results_are_kept_and_one_topic_leaves_the_others(
    bench: ModuleType, topics: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    assert bench.main(["--out", str(out), "--only", "other_topic"], topics) == 0
    assert bench.main(["--out", str(out), "--only", "tiny_topic"], topics) == 0
    found = json.loads(out.read_text())["topics"]
    assert list(found) == ["tiny_topic", "other_topic"], "the order of the table"
    row = found["tiny_topic"]["rows"][0]
    assert (row["value"], row["must"], row["met"]) == (40.0, "<= 3", False)
    assert found["tiny_topic"]["machine"]["cores"] >= 1
    assert "| NO |" in capsys.readouterr().out, "a bar that is missed is said"
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["results.json"]


def test_a_topic_that_crashes_is_told_after_the_others_have_run(
    bench: ModuleType, topics: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["crashing_topic", *topics]
    assert bench.main(["--out", str(tmp_path / "results.json")], names) == 1
    written = capsys.readouterr()
    assert "no such thing" in written.err
    assert written.err.splitlines()[-1] == "crashed: crashing_topic"
    assert "sum of another" in written.out
    assert list(json.loads((tmp_path / "results.json").read_text())["topics"]) == topics


def test_what_was_measured_before_an_interruption_is_kept(
    bench: ModuleType, topics: list[str], tmp_path: Path
) -> None:
    (tmp_path / "stopped_topic.py").write_text(
        "def measure(*, smoke):\n    raise KeyboardInterrupt\n"
    )
    out = tmp_path / "results.json"
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--out", str(out)], [topics[0], "stopped_topic", topics[1]])
    assert list(json.loads(out.read_text())["topics"]) == [topics[0]]


def test_topics_of_the_list_are_there(bench: ModuleType) -> None:
    folder = Path(bench.__file__ or "").parent
    assert all((folder / f"{name}.py").is_file() for name in bench.TOPICS)
    assert len(set(bench.TOPICS)) == len(bench.TOPICS)


def test_arms_take_turns(benchmark_module: Callable[[str], ModuleType]) -> None:
    harness = benchmark_module("harness")
    called: list[str] = []
    arms = {name: lambda name=name: called.append(name) for name in "abc"}
    seconds = harness.alternate(arms, 2, warm_up=1)
    assert "".join(called) == "abc" + "cba" + "abc"
    assert list(seconds) == ["a", "b", "c"]
    assert all(value >= 0 for value in seconds.values())
    with pytest.raises(ValueError, match="rounds is 0"):
        harness.alternate(arms, 0)


@pytest.mark.parametrize(
    ("value", "must", "met"),
    [(1.05, "<= 1.05", True), (1.06, "<= 1.05", False), (3.0, ">= 3", True), (2.9, ">= 3", False)],
)
def test_rows_say_whether_they_are_as_they_must_be(
    benchmark_module: Callable[[str], ModuleType], value: float, must: str, met: bool
) -> None:
    row = benchmark_module("harness").Row("what", value, "x", must=must)
    assert row.met is met


def test_a_bar_is_a_comparison_with_a_number(
    benchmark_module: Callable[[str], ModuleType],
) -> None:
    with pytest.raises(ValueError, match="it has to be"):
        benchmark_module("harness").Row("what", 1.0, "x", must="1.05")
