"""The labs, demos 13 to 20: each stands in the table with a picture that it draws, and ends with something to try."""
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "demos"
LABS = [demo for demo in sorted(FOLDER.glob("[0-9][0-9]_*.py")) if 13 <= int(demo.name[:2]) <= 20]
ROWS = {row[0]: row for row in re.findall(r"\| \[\d\d\]\((\S+\.py)\) \| (.+?) \| (.+?) \| (.+?) \| `(\S+)` \|",
                                          (FOLDER / "README.md").read_text())}


def test_there_are_eight_labs_in_the_order_of_the_table():
    numbers = [int(name[:2]) for name in ROWS]
    assert [int(lab.name[:2]) for lab in LABS] == list(range(13, 21)) and numbers == sorted(numbers)


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_a_lab_stands_in_the_table_with_its_question_and_a_picture_that_it_draws(lab):
    text = lab.read_text()
    _, question, promise, _, picture = ROWS[lab.name]
    assert question.split(":")[0].split(",")[0].split("?")[0] in text.splitlines()[0]
    assert re.search(r"\d", promise) and f'pictures / "{picture}"' in text


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_a_lab_names_its_own_folder_and_ends_with_something_to_try(lab):
    *_, last = lab.read_text().split("# %% [markdown]\n")
    assert last.startswith("# Try next: ") and all(line.startswith("#") for line in last.splitlines())
    assert f'lesson.begin("{lab.name}"' in lab.read_text()
