"""The pipeline tells its session what the streams would like, and where to remember that the broker has it."""

from pathlib import Path

from ingest.guarantee import Wanted
from tocsin.config import load_config
from tocsin.pipeline import Pipeline

CONFIG = """\
data_dir: data
limits: {max_payload_bytes: 5000}
streams:
  - {name: fast, topic: "a/{device}", staleness: 10s}
  - {name: slow, topic: "a/{machine}", staleness: 45m, labels: {device: x}}
  - {name: other, topic: "b/{device}"}
"""


def test_each_filter_is_judged_by_its_most_patient_stream(tmp_path: Path):
    (tmp_path / "tocsin.yaml").write_text(CONFIG)
    loaded = load_config(tmp_path / "tocsin.yaml")
    pipeline = Pipeline(loaded)
    try:
        assert [(g.filter, g.level, g.reasons) for g in pipeline.session.guarantees()] == [
            ("a/+", "none", ("not connected yet",)),
            ("b/+", "none", ("not connected yet",)),
        ]
        watch = pipeline.session._watch
        assert watch._guarantees._wanted == {
            "a/+": Wanted(silent_after=45 * 60 * 10**9, max_payload_bytes=5000),
            "b/+": Wanted(silent_after=5 * 60 * 10**9, max_payload_bytes=5000),
        }
        assert watch._record._path == loaded.data_dir.session
    finally:
        pipeline.close()
