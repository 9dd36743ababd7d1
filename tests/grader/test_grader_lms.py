"""Whose a file or folder is, by its name alone: all that is known from it."""

import pytest

from checks.grader.intake.lms import Owner, owner, without_copy_mark

HELLO = "00_hello_triton"
OWNERS = {
    ("lovelaceada_101_202_work.ipynb", False): Owner("lovelaceada", "canvas", "101", when=(202,)),
    ("lovelaceada_LATE_101_202_a_b.zip", False): Owner("lovelaceada", "canvas", "101", late=True, when=(202,)),
    ("lovelaceada_101_202_work", True): Owner("lovelaceada", "canvas", "101", when=(202,)),
    ("Ada Lovelace_55_assignsubmission_file_", True): Owner("Ada Lovelace", "moodle", "55"),
    ("Ada Lovelace_55_assignsubmission_onlinetext_a.html", False): Owner("Ada Lovelace", "moodle", "55"),
    ("HW 1_ada_attempt_2026-10-01-12-30-00_a.ipynb", False): Owner("ada", when=(2026, 10, 1, 12, 30, 0)),
    ("HW 1_ada_attempt_2026-10-01-12-30-00.txt", False): Owner("ada", when=(2026, 10, 1, 12, 30, 0)),
    ("12-34 - Ada L - Oct 3, 2026 1005 AM", True): Owner("Ada L", when=(2026, 10, 3, 10, 5)),
    ("12-34 - Ada L - 3. Oktober 2026", True): Owner("Ada L"),
    ("submission_123", True): Owner("submission_123", "gradescope", "123"),
    ("submission_123.zip", False): Owner("submission_123"),
    ("ada.l", True): Owner("ada.l"), ("ada (1)", True): Owner("ada (1)"),
    ("ada_report_card.json", False): Owner("ada"), ("ada.ipynb.txt", False): Owner("ada"),
    ("ada.tar.gz", False): Owner("ada"),
    ("ADA.IPYNB", False): Owner("ADA"), (".zip", False): Owner(".zip"), ("ada.pdf", False): Owner("ada"),
    (f"{HELLO} - Ada L.ipynb", False): Owner("Ada L"),
    (f"Copy of {HELLO} - Ada L.ipynb", False): Owner("Ada L", copied=True),
    (f"{HELLO} - Ada L (1).ipynb", False): Owner("Ada L", copied=True),
    (f"{HELLO} - Kopie von Ada L.ipynb", False): Owner("Ada L", copied=True),
    (f"ada_{HELLO}.ipynb", False): Owner("ada"), (f"ada-l - {HELLO}-2.ipynb", False): Owner("ada-l", copied=True),
    (f"ada_{HELLO} (2).ipynb", False): Owner("ada", copied=True), ("ada_07b_gate.py", False): Owner("ada"),
    ("ada.ipynb", False): Owner("ada"), ("ada (2).ipynb", False): Owner("ada", copied=True),
    ("Copia di ada.ipynb", False): Owner("ada", copied=True),
}


@pytest.mark.parametrize("name, folder", OWNERS)
def test_all_that_a_name_says(name, folder):
    assert owner(name, folder) == OWNERS[name, folder]


@pytest.mark.parametrize("text, when", [
    ("Jan 1, 2026 1200 AM", (2026, 1, 1, 0, 0)), ("February 10, 2026 12:05 AM", (2026, 2, 10, 0, 5)),
    ("Mar 3, 2026 1200 PM", (2026, 3, 3, 12, 0)), ("Apr 30, 2026 100 PM", (2026, 4, 30, 13, 0)),
    ("May 1, 2026 1159 PM", (2026, 5, 1, 23, 59)), ("Jun 1, 2026 959 AM", (2026, 6, 1, 9, 59)), ("Jul 1, 2026 1200", ()),
    *((f"{month} 1, 2026 100 AM", (2026, number, 1, 1, 0)) for number, month in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)),
    ("Okt 1, 2026 100 AM", ())])
def test_brightspace_s_dates(text, when):
    assert owner(f"1-2 - Ada - {text}", True) == Owner("Ada", when=when)


@pytest.mark.parametrize("name, plain", [
    ("ada (1)", "ada"), ("ada(12)", "ada"), ("ada-Copy1", "ada"), ("ada - Copy (2)", "ada"), ("ada copy", "ada"),
    ("ada_copy_2", "ada"), ("ada - Kopie", "ada"), ("ada (1) (2)", "ada"), ("copy", "copy"), ("(1)", "(1)"),
    ("ada 1", "ada 1"), ("photocopy", "photocopy"), ("ada-copyright", "ada-copyright")])
def test_names_without_the_mark_of_a_copy(name, plain):
    assert without_copy_mark(name) == plain
