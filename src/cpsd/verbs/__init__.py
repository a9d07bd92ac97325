"""The verbs: what each command does, and what it prints."""

from collections.abc import Callable
from functools import partial

from jsonargparse import Namespace

from cpsd.verbs.compare import compare
from cpsd.verbs.data import check, demo
from cpsd.verbs.explain import explain
from cpsd.verbs.models import evaluate, import_published, predict
from cpsd.verbs.report import report
from cpsd.verbs.runs import LAST_STAGE, run

VERBS: dict[str, Callable[[Namespace], int]] = {
    "run": run,
    **{verb: partial(run, last_stage=stage) for verb, stage in LAST_STAGE.items()},
    "compare": compare,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "report": report,
    "import": import_published,
    "data check": check,
    "data demo": demo,
}
