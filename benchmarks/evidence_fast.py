"""Is the fast form as good as the faithful one, and better than plain training? Hours; resumable.

    python benchmarks/evidence_fast.py mirflickr/labels.csv --weights FILE --out evidence/fast

Plain training, the faithful method and its fast form over seeds, each seed with teachers of its
own, and plain training at the fast form's price, on a part of the training pictures and all of the
test split. A Markdown table with 95 % intervals (``cpsd.evaluation.intervals``) and costs is
printed, and ``evidence.json`` written with it, after every run. Interrupted, the same command goes
on where it stopped. ``make evidence-fast`` calls it.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpsd.comparison.arms import ARMS, CPSD, Arm, Budget
from cpsd.comparison.results import Results
from cpsd.comparison.runs import Comparison, Plan, Watching
from cpsd.config import (
    DataConfig,
    EvaluationConfig,
    ImageConfig,
    PartitionConfig,
    RunConfig,
    TrainingConfig,
)
from cpsd.data.records import TRAIN, Records
from cpsd.data.sources import load_records
from cpsd.evaluation.intervals import difference
from cpsd.evaluation.scoreboard import BASELINE, STUDENT
from cpsd.fast import fast
from cpsd.files import write_json
from cpsd.machine_config import MachineConfig
from cpsd.manifest import run_facts
from cpsd.model_config import ModelConfig
from cpsd.report.comparison_tables import interval_text
from cpsd.report.progress import duration

FAST = "fast"
METRIC = "mAP"
REPORT = "evidence.json"
LONG = "baseline-long"
BARS = {
    (FAST, CPSD): "lower end above -1.0, mean above -0.3",
    (FAST, BASELINE): "above 0",
    (FAST, LONG): "",
    (CPSD, BASELINE): "",
    (LONG, BASELINE): "",
}
"""What the differences are held to, in points of mAP; nothing, where they are shown beside."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not there yet, and print the table after every run."""
    arguments = _arguments(argv)
    config = settings(arguments)
    records, notices = load_records(config.data, seed=0)
    records = some(records, arguments.pictures)
    wanted = {BASELINE, CPSD, *arguments.arms}
    compared = tuple(arm for arm in arms(arguments.long_epochs) if arm.name in wanted)
    plan = Plan(compared, arguments.seeds, arguments.seeds)
    folder = Path(arguments.out)
    results = Results(
        folder, plan, records.test_splits(), EvaluationConfig(), num_resamples=arguments.resamples
    )
    comparison = Comparison(
        config,
        records,
        folder,
        plan,
        facts=run_facts(config, records, notices),
        watching=Watching(begins=_announce),
    )
    for run in comparison.runs():
        results.add(run)
        report = found(results)
        write_json(folder / REPORT, report)
        print("\n".join(table(report)), flush=True)  # noqa: T201 - what the script is for


def settings(arguments: argparse.Namespace) -> RunConfig:
    """Return the faithful method's settings, those of MirFlickr in docs/evidence.md."""
    return RunConfig(
        data=DataConfig(table=arguments.table, test_split=arguments.test_split),
        image=ImageConfig(
            size=arguments.size, randaugment=False, cutout=0.25, horizontal_flip=True
        ),
        model=ModelConfig(
            backbone=arguments.backbone,
            weights=arguments.weights,
            normalization="symmetric",
            freeze_batch_norm=True,
        ),
        partition=PartitionConfig(parts=arguments.parts),
        training=TrainingConfig(
            epochs=arguments.epochs, learning_rate=arguments.learning_rate, ema_decay=0.99
        ),
        machine=MachineConfig(accelerator=arguments.accelerator, workers=arguments.workers),
    )


def arms(long_epochs: int) -> tuple[Arm, ...]:
    """Return plain training, short and long, the fast form, and the faithful method."""
    known = {arm.name: arm for arm in ARMS}

    def longer(config: RunConfig, budget: Budget) -> RunConfig:
        return replace(config, training=replace(config.training, epochs=long_epochs))

    return (
        known[BASELINE],
        Arm(FAST, "the fast form of cpsd", STUDENT, _fast),
        Arm(LONG, "plain training at the price of the fast form", BASELINE, longer),
        known[CPSD],
    )


def some(records: Records, pictures: int) -> Records:
    """Return the records with the first ``pictures`` of the training pictures."""
    left_out = {*records.indices(TRAIN)[pictures:].tolist()}
    return records.select([row for row in range(len(records)) if row not in left_out])


def found(results: Results) -> dict[str, Any]:
    """Return scores, costs and differences of what has been run so far."""
    split, content = results.splits[0], results.to_json()
    arms = {
        row["name"]: {
            METRIC: row["intervals"][split][METRIC],
            "by seed": [run["scores"][split][METRIC] for run in row["runs"]],
            "cost": row["cost"],
        }
        for row in content["rows"]
        if row["name"] in (BASELINE, CPSD, FAST, LONG)
    }
    differences = {}
    for (arm, reference), must in BARS.items():
        scores = [results.rows[name] for name in (arm, reference) if name in results.rows]
        if len(scores) == 2 and {*scores[0].seeds} & {*scores[1].seeds}:
            one, other = (row.arm_scores(split, METRIC) for row in scores)
            interval = difference(one, other).to_json()
            differences[f"{arm} minus {reference}"] = {METRIC: interval, "must": must}
    runs = {key: content[key] for key in ("seeds", "runs_done", "runs_planned")}
    return {**runs, "split": split, "arms": arms, "differences": differences}


def table(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the Markdown tables of a report."""
    yield f"{report['runs_done']} of {report['runs_planned']} runs are done."
    yield ""
    yield "| arm | mAP | seed by seed | plain trainings | by the clock |"
    yield "|---|---|---|--:|--:|"
    for name, arm in report["arms"].items():
        seeds = ", ".join(f"{100 * score:.1f}" for score in arm["by seed"])
        cost, clock = arm["cost"], arm["cost"]["plain_trainings_by_the_clock"]
        yield (
            f"| {name} | {interval_text(arm[METRIC])} | {seeds} "
            f"| {cost['plain_trainings']:.2f} | {'' if clock is None else f'{clock:.2f}'} |"
        )
    yield ""
    yield "| difference | mAP | must be |"
    yield "|---|---|---|"
    for name, found in report["differences"].items():
        yield f"| {name} | {interval_text(found[METRIC], signed=True)} | {found['must']} |"
    yield ""


def _fast(config: RunConfig, budget: Budget) -> RunConfig:
    return fast(config)


def _announce(arm: Arm, seed: int, number: int, total: int, seconds: float | None) -> None:
    left = "" if seconds is None else f", about {duration(seconds)} left"
    print(f"{arm.name}, seed {seed}: run {number} of {total}{left}", flush=True)  # noqa: T201


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", help="pictures with labels, as cpsd run takes them")
    parser.add_argument("--out", required=True, help="folder of the runs; goes on where it stopped")
    parser.add_argument("--weights", default="timm", help="as model.weights")
    parser.add_argument("--backbone", default="mobilenetv2_100", help="any timm name")
    parser.add_argument("--test-split", default="val", help="as data.test_split")
    parser.add_argument("--pictures", type=int, default=2500, help="of the training pictures")
    parser.add_argument("--size", type=int, default=96, help="pixels a side")
    parser.add_argument("--parts", type=int, default=5, help="of each partition")
    parser.add_argument("--seeds", type=int, default=3, help="each with teachers of its own")
    parser.add_argument("--epochs", type=int, default=24, help="as training.epochs")
    parser.add_argument(
        "--long-epochs", type=int, default=68, help="of plain training at the fast form's price"
    )
    further = (FAST, LONG)
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=further,
        default=further,
        help="only these beside baseline and cpsd",
    )
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="peak of the schedule")
    parser.add_argument("--resamples", type=int, default=2000, help="of the test pictures")
    parser.add_argument("--workers", type=int, default=1, help="processes that load pictures")
    parser.add_argument("--accelerator", default="auto", help="as machine.accelerator")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
