from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys

import pytest
from rich.progress import Progress

from clipcount_cli import console
from clipcount_cli.counting.results import Line
from clipcount_cli.errors import ImageReadError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def usual_verbosity(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console.set_verbosity()
    yield
    console.set_verbosity()


def test_counts_go_to_stdout_with_one_decimal_and_a_tab(capsys):
    console.show_counts("photo.jpg", [Line("red [apples]", 12.26)])

    shown = capsys.readouterr()
    assert shown.out == "12.3\tred [apples]\n"
    assert shown.err == "in photo.jpg:\n"


def test_brackets_in_a_file_name_are_not_taken_for_markup(capsys):
    console.show_error(ImageReadError("photo[red].jpg is cut off", hint="look at [/it]"))

    assert capsys.readouterr().err == "error: photo[red].jpg is cut off\nhint: look at [/it]\n"


def test_a_file_name_cannot_paint_on_the_terminal(capsys):
    console.notice("bad\x1b[31m\udcff name")

    assert capsys.readouterr().err == "bad\\x1b[31m\\xff name\n"


def test_a_file_name_cannot_reverse_the_text_around_it(capsys):
    console.notice("a\u202egpj.exe is \u05e9\u05dc\u05d5\u05dd")
    console.show_line("1.0", "coins\u2066")

    shown = capsys.readouterr()
    assert shown.err == "a\\u202egpj.exe is \u05e9\u05dc\u05d5\u05dd\n"
    assert shown.out == "1.0\tcoins\\u2066\n"


def test_a_long_message_stays_on_one_line(capsys):
    console.warn("x" * 300)

    assert capsys.readouterr().err == "warning: " + "x" * 300 + "\n"


def test_quiet_hides_notices_but_neither_warnings_nor_errors(capsys):
    console.set_verbosity(quiet=True)

    console.notice("hidden")
    console.detail("hidden")
    console.warn("kept")
    console.show_error(ImageReadError("kept too"))

    assert capsys.readouterr().err == "warning: kept\nerror: kept too\n"


def test_details_are_said_only_when_verbose(capsys):
    console.detail("hidden")
    console.set_verbosity(verbose=True)
    console.detail("shown")

    assert capsys.readouterr().err == "shown\n"


def test_debug_shows_where_an_error_was_raised(capsys):
    console.set_verbosity(debug=True)
    try:
        raise ImageReadError("broken")
    except ImageReadError as error:
        console.show_error(error)

    assert "Traceback" in capsys.readouterr().err


def test_a_prompt_stdout_cannot_encode_is_spelt_out(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)

    console.show_line("3.0", "苹果")

    stdout.flush()
    assert stdout.buffer.getvalue() == b"3.0\t\\u82f9\\u679c" + os.linesep.encode()


def test_json_survives_undecodable_bytes_in_a_name(capsys):
    console.show_json({"image": "a\udcff.jpg"})

    assert json.loads(capsys.readouterr().out) == {"image": "a\udcff.jpg"}


def test_a_table_in_a_pipe_keeps_its_long_cells_whole(capsys):
    console.show_table(["measure", "value"], [["[mae] " + "x" * 100, 17.5]])

    assert "[mae] " + "x" * 100 + "    17.5" in capsys.readouterr().out


def test_no_bar_is_drawn_where_stderr_is_no_terminal(capsys):
    with console.progress("images", total=2, unit="images") as bar:
        bar.advance(note="1 failed")
        bar.restart(completed=2)

    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_shows_its_note(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console.set_verbosity()
    with console.progress("images [1]", total=2, unit="images") as bar:
        bar.advance(2, note="1 [failed]")

    assert "images [1]" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    assert "1 [failed]" in terminal.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_bar_and_time_left_are_visible_at_every_width(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stderr", terminal)
    console.set_verbosity()
    with console.progress("training", total=16_600, unit="steps") as bar:
        assert bar.drawn
        bar.advance(1234, note="epoch 103, loss 0.01234")

    shown = terminal.getvalue()
    assert "━" in shown
    assert "1234/16600" in shown
    assert re.search(r"(\d|-):(\d|-){2}:(\d|-){2}", shown)


class Clock:
    """A bar whose seconds pass when the test says so."""

    def __init__(self, completed=0, total=1000):
        self.now = 100.0
        self._drawn = Progress(
            get_time=lambda: self.now, speed_estimate_period=console._STEPS_WINDOW_S
        )
        self.bar = console.ProgressBar(self._drawn, self._drawn.add_task("counting", total=total))
        self.bar.start_at(completed)

    def after(self, seconds, *steps):
        """Advance by all `steps`, a moment apart."""
        self.now += seconds
        for each in steps:
            self.bar.advance(each)
            self.now += 1e-4
        return self._drawn.tasks[0]


def test_the_speed_of_rows_that_arrive_together_counts_the_wait_for_them():
    clock = Clock()

    assert clock.after(0).speed is None
    assert clock.after(2, 3, 3, 3, 3).speed == pytest.approx(6, rel=0.01)
    assert clock.after(2, 12).speed == pytest.approx(6, rel=0.01)
    assert clock.after(0).time_remaining == pytest.approx(976 / 6, abs=2)


def test_the_speed_of_a_continued_run_leaves_out_what_was_done_before():
    assert Clock(completed=900).after(4, 4, 4).speed == pytest.approx(2, rel=0.01)


def test_the_time_left_is_known_for_steps_of_a_minute():
    clock = Clock(total=100)
    clock.after(60, 1)

    assert clock.after(60, 1).time_remaining == pytest.approx(98 * 60, rel=0.01)


@pytest.mark.parametrize(
    ("speed", "words"), [(12.34, "12.3 steps/s"), (0.1, "0.1 steps/s"), (1 / 60, "1.0 steps/min")]
)
def test_slow_steps_are_shown_per_minute(speed, words):
    assert console.speed_in_words(speed, "steps") == words


def test_rich_is_not_imported_until_something_is_said():
    code = "import sys, clipcount_cli.console; sys.exit('rich' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_message_is_wrapped_between_words_and_never_within_one(columns, monkeypatch):
    path = "/data/" + "a-long-name." * 10 + "jpg"
    text = f"{path} was resized fourfold, so that small objects may be missed: try --tiles 4"
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stderr", Terminal())
    console.set_verbosity()

    console.show_error(ImageReadError(text, hint="try --tiles auto, which chooses by the image"))

    lines = re.sub(r"\x1b\[[\d;]*m", "", sys.stderr.getvalue()).splitlines()
    assert [word for line in lines for word in line.split()] == (
        f"error: {text} hint: try --tiles auto, which chooses by the image".split()
    )
    assert all(len(line) <= columns or path in line for line in lines)


def test_an_indented_line_stays_indented_if_it_is_wrapped(monkeypatch):
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setattr(sys, "stderr", Terminal())
    console.set_verbosity()

    console.notice("one of:\n  points.csv    columns image,prompt,x,y")

    assert sys.stderr.getvalue() == "one of:\n  points.csv    columns\n  image,prompt,x,y\n"


def test_a_message_in_a_pipe_stays_on_one_line(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    text = "the image was shrunk fourfold: if its objects are small, try --tiles 4"

    console.notice(text)

    assert capsys.readouterr().err == f"{text}\n"
