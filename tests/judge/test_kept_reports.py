"""The compiler's reports in files: which are kept, and which are found again."""

import os
from types import SimpleNamespace

import pytest

from checks.judge import kept_reports

GOOD = {"error": None, "registers": 8}


@pytest.mark.parametrize(("job", "report", "kept"), [
    ('{"description": "{}"}', GOOD, True), ('{"description": "{}"}', GOOD | {"error": "refused"}, False),
    ('{"module": "kernels.gemv", "name": "k"}', GOOD, False)])
def test_only_what_is_right_and_described_whole_is_kept(monkeypatch, tmp_path, job, report, kept):
    monkeypatch.setattr(kept_reports, "_path", lambda job: tmp_path / "deep" / "reports" / "1.json")
    assert kept_reports.find(job) is None
    kept_reports.keep(job, report)
    kept_reports.keep(job, report)
    assert kept_reports.find(job) == (report if kept else None)
    assert kept_reports.find(job + " ") is None, "another job, whatever its file is called"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"job": "a"}', '{"report": {}}', "\udce9"])
def test_what_is_no_report_is_none(monkeypatch, tmp_path, text):
    (file := tmp_path / "1.json").write_bytes(text.encode(errors="surrogateescape"))
    monkeypatch.setattr(kept_reports, "_path", lambda job: file)
    assert kept_reports.find("a") is None


def test_what_a_report_depends_on_is_in_its_file_s_name(monkeypatch, tmp_path):
    assembler = tmp_path / "ptxas"
    assembler.write_bytes(b"1")
    monkeypatch.setattr(kept_reports, "knobs", SimpleNamespace(nvidia=SimpleNamespace(ptxas=SimpleNamespace(
        path=str(assembler))), cache=SimpleNamespace(dir=str(tmp_path))))
    monkeypatch.setattr(kept_reports, "ROOT", tmp_path)
    (tmp_path / "checks").mkdir()
    monkeypatch.setattr(kept_reports, "COMPILE_WITH", ("a.py", "b.py"))
    sources = [tmp_path / "checks" / name for name in kept_reports.COMPILE_WITH]
    for source in sources:
        source.write_text("1")
    paths = []

    def another_path(job="{}"):
        kept_reports._compiler.cache_clear()
        paths.append(kept_reports._path(job))

    another_path()
    another_path("[]")
    monkeypatch.setattr(kept_reports, "get_cache_invalidating_env_vars", lambda: {"TRITON_DEFAULT_FP_FUSION": "0"})
    another_path()
    monkeypatch.setattr(kept_reports.triton, "__version__", "4")
    another_path()
    for source in sources:
        source.write_text("2")
        another_path()
    os.utime(assembler, (1, 1))
    another_path()
    assembler.write_bytes(b"12")
    os.utime(assembler, (1, 1))
    another_path()
    assembler = assembler.rename(tmp_path / "another ptxas")
    kept_reports.knobs.nvidia.ptxas.path = str(assembler)
    another_path()
    kept_reports._compiler.cache_clear()
    assert len(set(paths)) == len(paths) == 9
    assert all(path.parent == tmp_path / "reports" for path in paths), "beside Triton's own"


def test_each_job_has_its_report(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_reports, "_path", lambda job: tmp_path / "reports" / f"{len(job)}.json")
    jobs = [f'{{"description": "{text}"}}' for text in ("", "a", "ab")]
    for at, job in enumerate(jobs):
        kept_reports.keep(job, GOOD | {"registers": at})
    assert [kept_reports.find(job)["registers"] for job in jobs] == [0, 1, 2]
