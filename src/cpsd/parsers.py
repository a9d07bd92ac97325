"""The parsers of the command line: which arguments each verb takes, with their help."""

from collections.abc import Callable, Container
from functools import partial
from importlib import resources
from typing import Any

from jsonargparse import ArgumentParser

from cpsd.config import DataConfig, RunConfig
from cpsd.machine_config import MachineConfig
from cpsd.strategies import CUTS

RUN_VERBS = {
    "run": "the whole method: partition, train, distill, evaluate",
    "partition": "only count the labels and cut them into parts",
    "train": "partition, then train the baseline and the sub-task teachers",
    "distill": "train, then store the soft labels and distil the student",
}
_PURPOSES = {
    **RUN_VERBS,
    "compare": "the method beside plain training and controls, over seeds, with intervals",
    "evaluate": "score a trained model",
    "predict": "say what is in pictures",
    "explain": "show where the predictors of a run look in a picture",
    "report": "write the page of a run or a comparison",
    "import": "make a model of a published checkpoint",
}
_DATA_PURPOSES = {
    "check": "account for every row of a data set",
    "demo": "write the embedded demo data",
    "pack": "store the pictures of a data set at training size",
}
VERBS = (*_PURPOSES, *(f"data {action}" for action in _DATA_PURPOSES))
RECIPES = resources.files("cpsd") / "recipes"


def recipe_names() -> list[str]:
    """Return the recipes inside the package, by name."""
    return sorted(p.name.removesuffix(".yaml") for p in RECIPES.iterdir() if p.name[-5:] == ".yaml")


def whole_parser(words: Container[str]) -> ArgumentParser:
    """Return the parser of all verbs; what is not among ``words`` is there by name alone.

    Args:
        words: of the command line. A verb that is asked for is one of them, and making the
            arguments of every other takes longer than all else that help does.
    """
    parser = _new_parser(
        prog="cpsd",
        description="Multi-label image classification by complementary parallel self-distillation.",
        epilog="Recipes: " + ", ".join(recipe_names()) + ". Each verb has its own --help.",
    )
    verbs = parser.add_subcommands(dest="verb", required=False)
    for verb, purpose in _PURPOSES.items():
        asked = parser_of(verb) if verb in words else _new_parser()
        verbs.add_subcommand(verb, asked, help=purpose)
    data = _new_parser(description="Look at data before using it, pack it, or make the demo's.")
    verbs.add_subcommand("data", data, help="check or pack data, or write the demo data")
    actions = data.add_subcommands(dest="action", required=False)
    for action, purpose in _DATA_PURPOSES.items():
        asked = parser_of(f"data {action}") if action in words else _new_parser()
        actions.add_subcommand(action, asked, help=purpose)
    return parser


def parser_of(verb: str) -> ArgumentParser:
    """Return the parser of one verb."""
    makers: dict[str, Callable[[], ArgumentParser]] = {
        **{name: partial(_run_parser, purpose) for name, purpose in RUN_VERBS.items()},
        "compare": _compare_parser,
        "evaluate": _evaluate_parser,
        "predict": _predict_parser,
        "explain": _explain_parser,
        "report": _report_parser,
        "import": _import_parser,
        "data check": _check_parser,
        "data demo": _demo_parser,
        "data pack": _pack_parser,
    }
    return makers[verb]()


def _new_parser(**texts: Any) -> ArgumentParser:  # noqa: ANN401 - argparse's own keywords
    return ArgumentParser(exit_on_error=False, allow_abbrev=False, **texts)


def _add_debug(parser: ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _add_bad_image(parser: ArgumentParser) -> None:
    what = "pictures that cannot be used: all are told and nothing starts, or they are left out"
    parser.add_argument("--on-bad-image", choices=("fail", "skip"), default=None, help=what)


def _run_parser(purpose: str) -> ArgumentParser:
    parser = _new_parser(description=f"{purpose[0].upper()}{purpose[1:]}.")
    parser.add_argument(
        "table", nargs="?", type=str | None, default=None, help="CSV or JSONL file, a row a picture"
    )
    parser.add_argument("--config", action="config", help="recipe by name or path (YAML)")
    parser.add_argument("--out", type=str | None, default=None, help="run directory")
    parser.add_argument("--dry-run", action="store_true", help="print configuration and stages")
    parser.add_argument("--redo", action="store_true", help="do stages with changed settings again")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="tiny pictures, few steps, random weights: every stage in about a minute, on a CPU",
    )
    cheap = "cheap teachers on the baseline's first stages: about three plain trainings in all"
    parser.add_argument("--fast", action="store_true", help=cheap)
    _add_bad_image(parser)
    where = "where stages are performed: in this process, or on the machines of a Ray cluster"
    parser.add_argument("--executor", choices=("local", "ray"), default="local", help=where)
    cluster = "auto, HOST:PORT or ray://HOST:PORT of a cluster to join; by default this machine"
    parser.add_argument("--ray-address", type=str | None, default=None, help=cluster)
    _add_debug(parser)
    parser.add_class_arguments(RunConfig, as_group=False)
    return parser


def _compare_parser() -> ArgumentParser:
    parser = _run_parser("the method beside plain training and controls, over seeds")
    parser.add_argument("--seeds", type=int, default=3, help="baselines and students an arm")
    parser.add_argument(
        "--teacher-seeds",
        type=int | None,
        default=None,
        help="independent sets of teachers they share; by default one a seed, at most 3",
    )
    arms = "only these beside baseline and cpsd, as psd-c,random; by default all"
    parser.add_argument("--arms", type=str | None, default=None, help=arms)
    parser.add_argument(
        "--resamples", type=int, default=2000, help="resamples of the test pictures for intervals"
    )
    return parser


def _add_model_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run directory, or the folder of one model")
    parser.add_argument(
        "--predictor",
        type=str,
        default="student",
        help="student, baseline, teachers/<strategy> or teachers (all together)",
    )
    _add_factory(parser)
    _add_debug(parser)
    parser.add_class_arguments(MachineConfig, "machine")


def _add_factory(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--factory", type=str | None, default=None, help="package.module:function of your own model"
    )


def _evaluate_parser() -> ArgumentParser:
    parser = _new_parser(description="Score a trained model; without data, show the run's scores.")
    _add_model_arguments(parser)
    parser.add_argument(
        "table", nargs="?", type=str | None, default=None, help="other data to score on"
    )
    parser.add_argument("--split", type=str | None, default=None, help="only this split of it")
    parser.add_argument("--out", type=str | None, default=None, help="folder for scores")
    parser.add_argument(
        "--threshold",
        type=float | None,
        default=None,
        help="probability to predict from; by default the model's or the run's",
    )
    parser.add_argument(
        "--top-k",
        type=int | None,
        default=None,
        help="labels a picture in the top-k scores; by default the run's",
    )
    _add_bad_image(parser)
    parser.add_class_arguments(DataConfig, "data")
    return parser


def _predict_parser() -> ArgumentParser:
    parser = _new_parser(description="Say which labels pictures have.")
    _add_model_arguments(parser)
    parser.add_argument("pictures", nargs="+", type=str, help="pictures, and folders of pictures")
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), default="table")
    parser.add_argument(
        "--threshold",
        type=float | None,
        default=None,
        help="probability to predict from; by default the model's or the run's",
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="probabilities with the temperatures that a run fits on validation",
    )
    for state in ("present", "absent"):
        parser.add_argument(
            f"--{state}",
            type=str | None,
            default=None,
            help=f"labels known to be {state} in all the pictures, as 'dog; cat' (head ctran)",
        )
    return parser


def _explain_parser() -> ArgumentParser:
    parser = _new_parser(
        description="Show where baseline, teachers and student look in a picture, side by side."
    )
    parser.add_argument("run", type=str, help="run directory, or the folder of one model")
    parser.add_argument("picture", type=str, help="the picture")
    labels = "what to look for, as 'dog; cat'; by default what is predicted"
    parser.add_argument("--labels", type=str | None, default=None, help=labels)
    out = "PNG file; by default the picture's name with -explained"
    parser.add_argument("--out", type=str | None, default=None, help=out)
    _add_factory(parser)
    _add_debug(parser)
    parser.add_class_arguments(MachineConfig, "machine")
    return parser


def _report_parser() -> ArgumentParser:
    parser = _new_parser(
        description="Write report.html, one page that works offline, from the files of a folder."
    )
    parser.add_argument("folder", type=str, help="run directory, or folder of a comparison")
    _add_debug(parser)
    return parser


def _import_parser() -> ArgumentParser:
    parser = _new_parser(
        description="Make a model folder of a checkpoint that the authors of CPSD published."
    )
    parser.add_argument("file", type=str, help="the checkpoint: .ckpt, .pth, .pt or .safetensors")
    architectures = "resnet101, resnet101-tf, q2l-resnet101, tresnet-l or resnext50-swsl"
    parser.add_argument("--arch", type=str, required=True, help=architectures)
    parser.add_argument(
        "--labels", type=str, required=True, help="coco, nuswide, or a file with a label a line"
    )
    parser.add_argument("--out", type=str, required=True, help="model folder")
    parser.add_argument(
        "--label-embeddings", type=str | None, default=None, help="for resnet101-tf: .npy or .pkl"
    )
    parser.add_argument("--image-size", type=int, default=448, help="of pictures it is given")
    parser.add_argument(
        "--part-file", type=str | None, default=None, help="for a teacher: the published partition"
    )
    parser.add_argument("--part", type=int | None, default=None, help="for a teacher: its part")
    parser.add_argument("--strategy", choices=CUTS, default=None, help="what the parts were cut by")
    _add_debug(parser)
    return parser


def _check_parser() -> ArgumentParser:
    parser = _new_parser(description="Account for every row of a data set; exit code 1 if wrong.")
    parser.add_argument("table", nargs="?", type=str | None, default=None, help="CSV or JSONL file")
    parser.add_argument("--config", action="config", help="recipe by name or path (YAML)")
    parser.add_argument("--seed", type=int, default=0, help="of the splits that are drawn")
    _add_debug(parser)
    parser.add_class_arguments(DataConfig, "data")
    return parser


def _demo_parser() -> ArgumentParser:
    parser = _new_parser(description="Write the embedded demo data: pictures and labels.csv.")
    parser.add_argument("folder", type=str, help="where to")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures")
    _add_debug(parser)
    return parser


def _pack_parser() -> ArgumentParser:
    parser = _new_parser(
        description="Store the pictures of a data set at image.size, once; data.pack then names "
        "the folder. Of all settings only seed, data and image.size matter."
    )
    parser.add_argument("table", nargs="?", type=str | None, default=None, help="CSV or JSONL file")
    parser.add_argument("--config", action="config", help="recipe by name or path (YAML)")
    parser.add_argument("--out", type=str, required=True, help="folder of the pack")
    _add_bad_image(parser)
    _add_debug(parser)
    parser.add_class_arguments(RunConfig, as_group=False)
    return parser
