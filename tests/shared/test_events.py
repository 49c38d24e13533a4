import json

from shared.events import RunLog, git_revision, read_metrics


def test_metrics_are_json_lines_and_resume_drops_what_came_after(tmp_path):
    log = RunLog(tmp_path, total=4)
    for iteration in (1, 2, 3):
        log.write("train", iteration, {"loss/seg": 0.5, "accuracy/domain": float("nan")})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "itera')
    resumed = RunLog(tmp_path, total=4, start=2)
    resumed.write("eval", 4, {"miou": 10.0, "iou": {"road": None}})
    resumed.close()
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [x["iteration"] for x in lines] == [1, 2, 4]
    assert lines[0]["accuracy/domain"] is None
    assert read_metrics(tmp_path) == lines
    assert read_metrics(tmp_path / "nowhere") == []


def test_silent_process_writes_nothing(tmp_path):
    log = RunLog(tmp_path / "run", total=1, active=False)
    log.write("train", 1, {"loss": 1.0})
    log.advance()
    log.announce("hello")
    log.close()
    assert not (tmp_path / "run").exists()


def test_git_revision_is_a_commit_or_unknown():
    revision, dirty = git_revision()
    assert revision == "unknown" or len(revision) == 40
    assert isinstance(dirty, bool)
