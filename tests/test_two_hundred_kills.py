"""Two hundred kills of builds and updates at random moments: nothing is ever lost or mixed up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from odqa.corpus import read_documents

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL"),
]

N_KILLS = 200
# A process that has everything imported forks for each attempt, which saves the start-up 200 times.
SCRIPT = """
import hashlib, json, os, random, shutil, signal, sys, time
from pathlib import Path

import faiss
from hashing_encoder import HashingEncoder
from odqa.build import build_index, components, dense_leg, shards, update_index
from odqa.config import load_config
from odqa.store import MANIFEST_NAME, RECIPE_NAME

faiss.omp_set_num_threads(1)  # threads do not survive a fork
shards.SHARD_DOCUMENTS, dense_leg.VECTOR_BLOCK, dense_leg.CHECKPOINT_SECONDS = 6, 8, 0.0
components.ENCODERS["hashing"] = lambda config, stored: HashingEncoder()
config = load_config(None, ["dense.encoder=hashing", "corpus.passage_chars=200", "build.workers=1"])
old_corpus, new_corpus, folder, n_kills = sys.argv[1:3] + [Path(sys.argv[3]), int(sys.argv[4])]
chance = random.Random(7)


def contents(index):
    found = {}
    for path in sorted(index.rglob("*")):
        if path.is_file() and path.name not in (MANIFEST_NAME, RECIPE_NAME):
            digest = hashlib.blake2b(path.read_bytes()).hexdigest()
            found[path.relative_to(index).as_posix()] = digest
    manifest = json.loads((index / MANIFEST_NAME).read_text())
    return found, manifest["files"].keys() - {RECIPE_NAME} == found.keys()


def begin(work, indexes_dir):
    pid = os.fork()
    if pid:
        return pid
    try:
        if work == "build":
            build_index(old_corpus, name="a", indexes_dir=indexes_dir, config=config)
        else:
            update_index(indexes_dir / "a", new_corpus, config)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def ended(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.001)
    return False


def finish(work, indexes_dir):
    started = time.monotonic()
    _, status = os.waitpid(begin(work, indexes_dir), 0)
    assert status == 0, f"{work} ended with {status}"
    return time.monotonic() - started


def state(indexes_dir):
    return contents(indexes_dir / "a") if (indexes_dir / "a").exists() else None


start = folder / "start"
expected, seconds = {}, {}
seconds["build"] = finish("build", start)
expected["build"] = state(start)
shutil.copytree(start, folder / "updated")
seconds["update"] = finish("update", folder / "updated")
expected["update"] = state(folder / "updated")
assert expected["build"][0] != expected["update"][0]
before = {"build": None, "update": expected["build"]}
kills = resumed = 0
for work in ("build", "update"):
    mine = 0
    while mine < n_kills // 2:
        indexes_dir = folder / f"{work}-{kills}"
        indexes_dir.mkdir()
        if work == "update":
            shutil.copytree(start / "a", indexes_dir / "a")
        for _ in range(chance.randint(1, 4)):  # the same work is killed several times
            pid = begin(work, indexes_dir)
            if ended(pid, chance.random() ** 1.5 * seconds[work]):
                break
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            mine, kills = mine + 1, kills + 1
            resumed += (indexes_dir / ".a.building" / "shards").exists()
            found = state(indexes_dir)
            assert found in (before[work], expected[work]), f"{work} left something else"
        finish(work, indexes_dir)
        assert state(indexes_dir) == expected[work], f"{work} ended otherwise"
        assert [path.name for path in indexes_dir.iterdir()] == ["a"]
        shutil.rmtree(indexes_dir)
print(json.dumps({"kills": kills, "resumed": resumed}))
"""


def write(path: Path, articles: list[dict[str, str]]) -> Path:
    lines = [json.dumps(article, ensure_ascii=False) for article in articles]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_two_hundred_kills(tmp_path: Path) -> None:
    articles = [
        {"id": d.doc_id, "title": d.title, "text": d.text}
        for d in list(read_documents("sample"))[:40]
    ]
    old = write(tmp_path / "old.jsonl", articles[:36])
    articles[5]["text"] = articles[5]["text"][:100]
    new = write(tmp_path / "new.jsonl", articles[3:])
    script = tmp_path / "kill.py"
    script.write_text(SCRIPT, encoding="utf-8")
    paths = (str(Path(__file__).parents[1]), str(Path(__file__).parent))
    process = subprocess.run(
        [sys.executable, str(script), str(old), str(new), str(tmp_path), str(N_KILLS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    record = json.loads(process.stdout.splitlines()[-1])
    assert record["kills"] >= N_KILLS
    assert record["resumed"] > N_KILLS / 10  # many kills came when there was something to resume
    assert signal.SIGKILL.name not in process.stderr
