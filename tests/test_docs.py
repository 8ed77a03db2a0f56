"""The documentation says what the code does."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from script_modules import load_script

from odqa.cli.main import make_parser
from odqa.config import load_config, merge, read_yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("indexes/*.md")])
READMES = (ROOT / "README.md", ROOT / "README.ko.md")


@pytest.mark.parametrize("name", ["cli.md", "configuration.md"])
def test_written_pages_are_up_to_date(name: str) -> None:
    page = load_script("write_docs").PAGES[name]()
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == page, "run: make docs"


@pytest.mark.parametrize("name", ["e5-small-ko", "reader-ko", "static-ko"])
def test_model_cards_follow_their_records(name: str) -> None:
    record = json.loads((ROOT / "docs" / "cards" / f"{name}.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "cards" / f"{name}.md").read_text(encoding="utf-8")
    assert load_script("write_cards").card(record, name) == page, (
        "run: python scripts/write_cards.py"
    )


def test_what_a_card_takes_from_a_run_and_an_evaluation(tmp_path: Path) -> None:
    cards = load_script("write_cards")
    loop = {"batch_size": 16, "learning_rate": 1e-4, "schedule": "linear", "warmup": 0.06}
    run = {
        "kind": "reader",
        "config": {"model": "/home/me/base", "layers": 10, "token_dropout": 0.0,
                   "loop": loop | {"weight_decay": 0.01, "seed": 3, "threads": 0}},
        "data": [{"role": "train", "name": "my.json", "n": 7, "sha256": None}], "n_questions": 7,
        "steps": 5, "minutes": 1.6, "loss": 0.5, "precision": "fp32", "device": "cpu",
        "hardware": {"cpu": "a CPU", "cores": 2, "threads": 2}, "versions": {"torch": "2"},
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    intervals = {"exact_match": [40.0, 100.0], "f1": [50.0, 95.0]}
    metrics = {"n": 7, "exact_match": 71.428, "f1": 80.0, "confidence_intervals": intervals}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    taken = cards.taken_run(tmp_path, "first")
    assert taken["from"] == "base"  # a place on somebody's machine is nobody's business
    assert taken["settings"] == {"layers": 10}
    record = json.loads((ROOT / "docs/cards/reader-ko.json").read_text(encoding="utf-8")) | {
        "runs": [taken],
        "figures": [cards.taken_figure(tmp_path / "metrics.json", "mine", "odqa evaluate")],
    }
    page = cards.card(record, "reader-ko")
    assert "| mine | 7 | exact_match | 71.43 | 40.00 to 100.00 | `odqa evaluate` |" in page
    assert "5 steps in 2 minutes on a CPU (2 threads), in fp32, from `base`." in page
    assert "Data: my.json (7)." in page


def test_every_key_has_a_meaning() -> None:
    page = load_script("write_docs").configuration_page()
    assert not [row for row in page.splitlines() if row.endswith("|  |")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        text = ((page.parent / target) if target else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert anchor in {
            re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings
        }


@pytest.mark.parametrize(
    "page", [*READMES, ROOT / "docs" / "training.md"], ids=lambda page: page.name
)
def test_commands_can_be_parsed(page: Path) -> None:
    commands = shell_commands(page)
    assert len(commands) > 10
    for words in commands:
        if "--help" not in words:  # SystemExit where an option is unknown
            make_parser(with_training=words[0] == "train").parse_args(words)


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_extras_are_those_there_are(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(table) == set(project["optional-dependencies"])


def test_both_readmes_show_the_same_commands() -> None:
    english, korean = (shell_commands(page) for page in READMES)
    assert english == korean


@pytest.mark.slow
@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_python_example_runs(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("odqa.reading.extractive")
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, page.name, "exec"), {})
    best, *_ = capsys.readouterr().out.splitlines()
    assert "세종" in best


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda path: path.name)
def test_example_configurations_are_valid(path: Path) -> None:
    load_config(path)
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("configs/train/*.yaml")), ids=lambda path: path.name
)
def test_training_configurations_are_valid(path: Path) -> None:
    pytest.importorskip("torch")
    from odqa.training.pretraining import PretrainingConfig
    from odqa.training.reader_config import ReaderTrainingConfig
    from odqa.training.static import StaticTrainingConfig

    kinds = {
        "pretrain": PretrainingConfig(), "reader": ReaderTrainingConfig(),
        "static": StaticTrainingConfig(),
    }  # fmt: skip
    merge(kinds[path.name.partition("-")[0]], read_yaml(path), where=path.name).loop.check()


def test_requirements_are_bounded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (r for group in groups for r in group):
        if not requirement.startswith("odqa["):
            assert ">=" in requirement, requirement
            assert "<" in requirement, requirement


def test_every_requirement_has_its_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=]", r)[0] for group in groups for r in group} - {"odqa"}
    page = (ROOT / "docs" / "licenses.md").read_text(encoding="utf-8")
    tables = page[page.index("## Packages that odqa needs") :]
    assert (
        set(re.findall(r"^\| ([\w.-]+) (?:\(.*\) )?\|", tables, re.MULTILINE)) - {"package"}
        == names
    )


def test_every_training_key_is_described() -> None:
    pytest.importorskip("torch")
    from odqa.training.loop_config import LoopConfig
    from odqa.training.pretraining import PretrainingConfig
    from odqa.training.questions import QuestionConfig
    from odqa.training.reader_config import ReaderTrainingConfig, TeacherConfig
    from odqa.training.reranker import RerankerTrainingConfig
    from odqa.training.static import StaticTrainingConfig
    from odqa.training.vocabulary import VocabularyConfig

    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    groups = {"loop": LoopConfig, "teacher": TeacherConfig}
    keys = {f"{name}.{f.name}" for name, group in groups.items() for f in dataclasses.fields(group)}
    for config in (
        QuestionConfig, ReaderTrainingConfig, RerankerTrainingConfig, StaticTrainingConfig,
        VocabularyConfig, PretrainingConfig,
    ):  # fmt: skip
        keys |= {field.name for field in dataclasses.fields(config)} - {*groups, "model", "reader"}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def shell_commands(page: Path) -> list[list[str]]:
    """The arguments of every ``odqa`` command in the shell blocks of a page."""
    import shlex

    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("odqa ")]
