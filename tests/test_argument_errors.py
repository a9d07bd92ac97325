"""Messages of the parser in words; tests of cpsd.arguments hold that real ones arrive here."""

import pytest

from cpsd.argument_errors import in_words

OPTIONS = (
    "help", "out", "dry-run", "debug", "data", "data.table", "data.format", "training",
    "training.epochs", "student.epochs", "threshold",
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("dryrun", "Did you mean 'dry-run'?"),
        ("dry_run", "Did you mean 'dry-run'?"),
        ("formt", "Did you mean 'data.format'?"),
        ("data.tabel", "Did you mean 'data.table'?"),
        ("epocs", "Did you mean 'training.epochs'?"),  # mistyped and without its section
        ("epochs", "Did you mean 'training.epochs'?"),  # the shared one, not the student's
        ("Training.Epochs", "Did you mean 'training.epochs'?"),
        ("evaluation.threshold", "Did you mean 'threshold'?"),  # a section this verb has not
        ("trainingepochs", "Did you mean 'training.epochs'?"),
        ("dash.jpg", "A picture whose name begins with a dash is given as ./-dash.jpg."),
        ("zzz", "See cpsd evaluate --help for all of them."),
    ],
)
def test_an_unknown_option_gets_the_nearest_of_the_verb(key: str, sentence: str) -> None:
    message = f"unrecognized arguments: --{key} csv"
    expected = f"There is no setting '{key}'. {sentence}"
    assert in_words(message, "evaluate", OPTIONS) == expected


def test_an_option_before_the_verb_is_sent_behind_it() -> None:
    message = in_words("unrecognized arguments: --debug", "data check", OPTIONS)
    assert message == "--debug stands after the verb: cpsd data check --debug."


@pytest.mark.parametrize(
    ("expected", "value", "sentence"),
    [
        ("<class 'int'>", "ten", "k.v is 'ten'; a whole number is needed."),
        ("<class 'int'>", "1.5", "k.v is 1.5; a whole number is needed."),
        ("<class 'float'>", "None", "k.v is null; a number is needed."),
        ("<class 'bool'>", "maybe", "k.v is 'maybe'; true or false is needed."),
        ("<class 'tuple'>", "x", "k.v is 'x'; a list such as [a, b] is needed."),
        ("<class 'Path'>", "x: y: z", "k.v is 'x: y: z'; Path is needed."),
        (
            "typing.Literal['32', 'bf16-mixed']",
            "bf16-mix",
            "k.v is 'bf16-mix'; one of 32, bf16-mixed is needed. Did you mean 'bf16-mixed'?",
        ),
    ],
)
def test_a_bad_value_is_said_with_what_is_needed(expected: str, value: str, sentence: str) -> None:
    message = f'Parser key "k.v":\n  Expected a {expected}. Got value: {value}'
    assert in_words(message, "run", ()) == sentence
    # Inside a section that was given as a whole; the key of the section does not matter.
    whole = f"Parser key \"k\":\nUnable to load config '{{v: x}}'\n  - {message}"
    assert in_words(whole, "run", ()) == sentence


def test_every_kind_of_a_union_is_named() -> None:
    message = (
        'Parser key "k.v":\n  Does not validate against any of the Union subtypes\n'
        "  Subtypes: [<class 'float'>, typing.Literal['auto'], <class 'NoneType'>]\n"
        "  Errors:\n    - Expected a <class 'float'>\n    - Expected a <class 'NoneType'>\n"
        "  Given value type: <class 'str'>\n  Given value: big"
    )
    expected = "k.v is 'big'; a number or one of auto or null is needed."
    assert in_words(message, "run", ()) == expected


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("something else went wrong", "Something else went wrong"),
        ("unrecognized arguments: u.csv", "'u.csv' is one word too many; see cpsd run --help."),
        ("argument --out: expected one argument", "--out needs a value."),
    ],
)
def test_other_messages(message: str, sentence: str) -> None:
    assert in_words(message, "run", OPTIONS) == sentence
