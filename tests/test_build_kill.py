"""A build that is killed or interrupted at any moment goes on and ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from odqa.errors import IndexNotUsableError
from odqa.store import check_files, find_index, read_manifest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]

N_ARTICLES = 900
N_KILLS = 10
SCRIPT = """
import sys
from pathlib import Path

def main():
    from hashing_encoder import HashingEncoder
    from odqa.build import build_index, components, dense_leg, shards, workers
    from odqa.config import load_config

    # Small units, so that a small corpus has many moments at which a kill makes a difference.
    shards.SHARD_DOCUMENTS, dense_leg.VECTOR_BLOCK, dense_leg.CHECKPOINT_SECONDS = 40, 16, 0.0
    workers.n_cores = lambda: 2
    components.ENCODERS["hashing"] = lambda config, stored: HashingEncoder()
    config = load_config(None, ["dense.encoder=hashing", "corpus.passage_chars=200"])
    corpus, indexes_dir = sys.argv[1:]
    print("ready", flush=True)
    build_index(corpus, name="killed", indexes_dir=indexes_dir, config=config)

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance = random.Random(3)
    words = ["서울은", "한강이", "부산의", "바다를", "대통령", "임금이", "노래하다", "1945년", "별"]
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(N_ARTICLES):
            text = " ".join(
                f"{' '.join(chance.choices(words, k=8))} {chance.randrange(5000)} 있다."
                for _ in range(chance.randrange(40))
            )
            record = {"id": str(i), "title": f"{chance.choice(words)} {i}", "text": text}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "build.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(
    corpus: Path, script: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """The index of a build that was left alone, and the seconds from "ready" to its end."""
    indexes_dir = tmp_path_factory.mktemp("undisturbed")
    process = start(script, corpus, indexes_dir)
    started = time.monotonic()
    assert process.wait() == 0
    return indexes_dir / "killed", time.monotonic() - started


def start(script: Path, corpus: Path, indexes_dir: Path) -> subprocess.Popen[str]:
    """Start a build in a process group of its own; returns when it is about to begin."""
    root, tests = Path(__file__).parents[1], Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, str(script), str(corpus), str(indexes_dir)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(tests)))},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def contents(index: Path) -> dict[str, object]:
    """Every byte of an index, but for the time and date of its making."""
    files = {
        str(path.relative_to(index)): path.read_bytes()
        for path in sorted(index.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    manifest = json.loads((index / "manifest.json").read_text())
    del manifest["build"]
    return {**files, "manifest.json": manifest}


def group_is_alive(process: subprocess.Popen[str]) -> bool:
    """Is there still a process of the build's group, other than zombies of it?"""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        if int(fields[2]) == process.pid and fields[0] != "Z":
            return True
    return False


def test_ten_kills_at_random_moments_change_nothing(
    undisturbed: tuple[Path, float], corpus: Path, script: Path, tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    chance = random.Random(20)
    kills, restarts = 0, 0
    indexes_dir = tmp_path / "indexes"
    while kills < N_KILLS:
        process = start(script, corpus, indexes_dir)
        try:
            # Resumed builds have less to do, so that short times must be as likely as long ones.
            process.wait(timeout=chance.random() ** 2 * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            if not (indexes_dir / "killed").exists():
                with pytest.raises(IndexNotUsableError, match="build-index"):
                    find_index("killed", indexes_dir)
        else:
            assert process.returncode == 0
            assert contents(indexes_dir / "killed") == contents(expected)
            restarts += 1  # it came to its end: begin another
            indexes_dir = tmp_path / f"indexes-{restarts}"
    process = start(script, corpus, indexes_dir)
    assert process.wait() == 0
    index = indexes_dir / "killed"
    assert contents(index) == contents(expected)
    assert check_files(index, read_manifest(index)) == []
    assert [path.name for path in indexes_dir.iterdir()] == ["killed"]


@pytest.mark.parametrize(
    "reached",
    [
        "shards/000003.npz",
        "shards.json",
        "passages",
        "duplicates.*.part",
        "duplicates",
        "sparse.*.part",
        "sparse",
        "vectors.json",
        "dense",
    ],
)
def test_a_kill_at_every_stage_changes_nothing(
    undisturbed: tuple[Path, float], corpus: Path, script: Path, tmp_path: Path, reached: str
) -> None:
    process = start(script, corpus, tmp_path)
    while process.poll() is None and not list(tmp_path.glob(f".killed.building/{reached}")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    process = start(script, corpus, tmp_path)
    assert process.wait() == 0
    assert contents(tmp_path / "killed") == contents(undisturbed[0])
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_build(corpus: Path, script: Path, tmp_path: Path) -> None:
    process = start(script, corpus, tmp_path)
    while not list(tmp_path.glob(".killed.building/shards/*.npz")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    patience = time.monotonic() + 20
    while group_is_alive(process):
        assert time.monotonic() < patience, "a worker has outlived the build"
        time.sleep(0.05)


SLOW_WORKERS = """
import time

def make_shard(job, *rest):
    job.path.with_name(f".{job.path.name}.part").touch()  # half written
    time.sleep(60 if job.path.stem != "000000" else 0)
    return made(job, *rest)

from odqa.build import workers
made, workers.make_shard = workers.make_shard, make_shard
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("whole_group", [True, False], ids=["Ctrl-C", "kill -INT"])
def test_an_interrupted_build_does_not_wait_for_its_workers(
    undisturbed: tuple[Path, float],
    corpus: Path,
    script: Path,
    tmp_path: Path,
    whole_group: bool,
) -> None:
    slow = tmp_path / "slow.py"  # workers import it as their main module, and are slow too
    slow.write_text(SLOW_WORKERS + script.read_text(encoding="utf-8"), encoding="utf-8")
    indexes_dir = tmp_path / "indexes"
    process = start(slow, corpus, indexes_dir)
    shards = indexes_dir / ".killed.building" / "shards"
    while not (shards / "000000.npz").exists() or len(list(shards.glob(".*.part"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    started = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    process.wait(timeout=30)
    assert time.monotonic() - started < 5  # a second at most where nothing else is running
    assert process.returncode == -signal.SIGINT  # the script's; the command's is 130
    patience = time.monotonic() + 5
    while group_is_alive(process):
        assert time.monotonic() < patience, "a worker has outlived the build"
        time.sleep(0.05)
    assert list(shards.glob(".*.part"))
    process = start(script, corpus, indexes_dir)
    assert process.wait() == 0
    assert contents(indexes_dir / "killed") == contents(undisturbed[0])


def test_a_bad_line_does_not_wait_for_the_workers(
    corpus: Path, script: Path, tmp_path: Path
) -> None:
    slow, broken = tmp_path / "slow.py", tmp_path / "broken.jsonl"
    slow.write_text(SLOW_WORKERS + script.read_text(encoding="utf-8"), encoding="utf-8")
    lines = corpus.read_text(encoding="utf-8").splitlines()
    # In the fourth shard: two workers are at the second and the third, for a minute, when it is
    # read.
    broken.write_text("\n".join([*lines[:130], "{", *lines[130:]]), encoding="utf-8")
    process = start(slow, broken, tmp_path / "indexes")
    assert process.wait(timeout=40) == 1
