"""Evaluation: figures checked by hand, the prompt check, and one bad picture among good ones."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_folders import draw, make_carpk, make_fsc147, make_own
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.results import CountResult
from clipcount_cli.data.datasets import load_dataset
from clipcount_cli.errors import CountError
from clipcount_cli.evaluation.evaluate import evaluate, gathered
from clipcount_cli.evaluation.metrics import EvalRow, Metrics, worst
from clipcount_cli.evaluation.plot import write_scatter
from clipcount_cli.evaluation.report import as_csv


class Answers:
    """A counter that gives the answers it was told to give, and remembers what it was asked."""

    def __init__(self, **answers: float) -> None:
        self.answers = answers
        self.asked: list[list[str]] = []
        self.tiles: list[int] = []

    def count_pixels(self, pixels, prompts, tiles):
        self.asked.append(list(prompts))
        self.tiles.append(tiles)
        if any(math.isnan(self.answers.get(prompt, 0.0)) for prompt in prompts):
            raise CountError("the count is not a number", hint="try --precision fp32")
        return [
            CountResult(prompt, self.answers.get(prompt, 0.0), np.zeros((1, 1), np.float32))
            for prompt in prompts
        ]

    def choose_tiles(self, pixels, prompts):
        return 3

    def size_notice(self, pixels, tiles):
        return Notice("shrunk 8x, try --tiles 4") if tiles == 1 and len(pixels) > 100 else None


def row(truth, count, absent=None, name="a.jpg"):
    return EvalRow(name, Path(name), "p", truth, count, absent)


def rows_of(root, counter, split="all", **options):
    samples = load_dataset(root, splits=[split]).split(split)
    return gathered(evaluate(counter, samples, **options))


# --- figures


def test_figures_are_those_of_their_definitions():
    metrics = Metrics.of(
        [row(10, 12, name="a"), row(4, 1, name="b"), row(0, 2, name="c"), row(100, 60, name="d")]
    )

    assert metrics.mae == pytest.approx((2 + 3 + 2 + 40) / 4)
    assert metrics.rmse == pytest.approx(math.sqrt((4 + 9 + 4 + 1600) / 4))
    assert metrics.nae == pytest.approx((2 / 10 + 3 / 4 + 40 / 100) / 3)
    assert metrics.sre == pytest.approx(math.sqrt((4 / 10 + 9 / 4 + 1600 / 100) / 3))
    assert metrics.rmse_without_two_largest == pytest.approx(math.sqrt((9 + 4) / 2))


def test_median_and_exact_figures_are_those_of_their_definitions():
    metrics = Metrics.of([row(10, 12), row(4, 4.4), row(4, 3.5), row(0, 0.4), row(2, 1.49)])

    assert metrics.median_relative_error == pytest.approx((0.125 + 0.2) / 2)
    assert metrics.exact == pytest.approx(3 / 5)  # 4.4, 3.5 and 0.4 are 4, 4 and 0


def test_an_image_with_several_prompts_is_one_image():
    rows = [row(100, 90, 50, "a"), row(2, 2, 4, "a"), row(50, 40, 10, "b"), row(5, 8, 2, "c")]

    metrics = Metrics.of(rows)

    assert metrics.rmse_without_two_largest == pytest.approx(3)
    assert metrics.nmn == pytest.approx(((0.5 + 2) / 2 + 0.2 + 0.4) / 3)
    assert metrics.pccn == pytest.approx(100 * (1 + 1 + 0.5) / 3)
    assert Metrics.of(rows[:3]).rmse_without_two_largest is None


def test_below_three_images_none_can_be_left_out():
    assert Metrics.of([row(1, 1, name="a"), row(2, 2, name="b")]).rmse_without_two_largest is None


def test_relative_figures_need_something_to_be_relative_to():
    metrics = Metrics.of([row(0, 3)])

    assert (metrics.mae, metrics.nae, metrics.sre) == (3, None, None)


def test_a_failed_picture_is_counted_as_failed_and_in_no_figure():
    metrics = Metrics.of([row(5, 6, name="a"), row(50, None, name="b")])

    assert (metrics.images, metrics.failed, metrics.mae) == (2, 1, 1)


@given(st.lists(st.tuples(st.integers(0, 4000), st.floats(0, 4000)), max_size=30))
def test_figures_are_finite_or_none_whatever_is_counted(pairs):
    metrics = Metrics.of([row(truth, count, name=str(n)) for n, (truth, count) in enumerate(pairs)])

    figures = (metrics.mae, metrics.rmse, metrics.nae, metrics.sre)
    assert all(figure is None or figure >= 0 for figure in figures)
    assert metrics.mae is None or metrics.mae <= metrics.rmse + 1e-6


# --- prompt check


def test_absent_answers_are_weighed_against_the_truth():
    metrics = Metrics.of([row(10, 11, absent=5.0), row(20, 30, absent=15.0)])

    assert metrics.nmn == pytest.approx((0.5 + 0.75) / 2)
    assert metrics.pccn == pytest.approx(50)  # 1 < 5, but 10 > 5


def test_a_tie_between_right_and_wrong_prompt_counts_half():
    assert Metrics.of([row(10, 12, absent=8.0)]).pccn == 50


def test_every_picture_is_also_asked_for_the_classes_that_are_not_in_it(tmp_path):
    splits = {"test": ["1.jpg", "2.jpg", "3.jpg"]}
    classes = {"1.jpg": "owls", "2.jpg": "pens", "3.jpg": "cups"}
    make_fsc147(tmp_path, splits, classes)
    counter = Answers(owls=2.0, pens=1.0, cups=0.0)

    rows = rows_of(tmp_path, counter, "test", prompt_check=True)

    assert [set(asked) for asked in counter.asked] == [{"owls", "pens", "cups"}] * 3
    assert [asked[0] for asked in counter.asked] == ["owls", "pens", "cups"]
    assert [r.absent_mean for r in rows] == [0.5, 1.0, 1.5]
    assert Metrics.of(rows).nmn == pytest.approx((0.25 + 0.5 + 0.75) / 3)


def test_a_class_with_a_row_but_no_object_counts_as_absent(tmp_path):
    make_own(tmp_path, ["a.jpg,cups,1,1", "a.jpg,pens,,"], ["a.jpg"])

    rows = rows_of(tmp_path, Answers(cups=1.0, pens=0.4), prompt_check=True)

    assert {r.prompt: r.absent_mean for r in rows} == {"cups": 0.4, "pens": None}


def test_with_one_class_the_prompt_check_has_no_answer(tmp_path):
    make_carpk(tmp_path, train=["a"], test=["b"])

    metrics = Metrics.of(rows_of(tmp_path, Answers(car=2.0), "test", prompt_check=True))

    assert (metrics.nmn, metrics.pccn) == (None, None)


@pytest.mark.parametrize("same", ["Cups", "red cups", "CUPS red"])
def test_a_prompt_that_names_what_is_there_is_never_absent(tmp_path, same):
    rows = [f"a.jpg,{same},1,1", "b.jpg,cups,1,1", "b.jpg,cups,2,2", "b.jpg,pens,3,3"]
    make_own(tmp_path, rows, ["a.jpg", "b.jpg"])
    counter = Answers(pens=0.5)

    rows_of(tmp_path, counter, prompt_check=True)

    assert sorted(map(sorted, counter.asked)) == sorted([sorted([same, "pens"]), ["cups", "pens"]])


def test_what_is_there_without_a_count_is_never_absent(tmp_path):
    make_own(tmp_path, [], ["a.jpg", "b.jpg"])
    (tmp_path / "points.csv").unlink()
    table = "image,prompt,count\na.jpg,cups,2\na.jpg,pens,\nb.jpg,pens,3\n"
    (tmp_path / "counts.csv").write_text(table)
    counter = Answers()

    rows_of(tmp_path, counter, prompt_check=True)

    assert counter.asked == [["cups"], ["pens", "cups"]]


def test_without_the_prompt_check_only_the_right_prompt_is_asked(tmp_path):
    make_fsc147(tmp_path, {"test": ["1.jpg", "2.jpg"]}, {"1.jpg": "owls", "2.jpg": "pens"})
    counter = Answers()

    rows_of(tmp_path, counter, "test")

    assert counter.asked == [["owls"], ["pens"]]


# --- pictures


def test_a_picture_of_several_prompts_is_encoded_once(tmp_path):
    make_own(tmp_path, ["a.jpg,cups,1,1", "b.jpg,cups,1,1", "a.jpg,pens,2,2"], ["a.jpg", "b.jpg"])
    counter = Answers()

    rows = rows_of(tmp_path, counter)

    assert sorted(map(len, counter.asked)) == [1, 2]
    assert Metrics.of(rows).images == 2


def test_an_unreadable_picture_is_a_row_that_says_why(tmp_path):
    make_own(tmp_path, ["a.jpg,cups,1,1", "b.jpg,cups,1,1"], ["a.jpg", "b.jpg"])
    whole = (tmp_path / "images" / "b.jpg").read_bytes()
    (tmp_path / "images" / "b.jpg").write_bytes(whole[: len(whole) // 2])

    failed = [r for r in rows_of(tmp_path, Answers(cups=1.0)) if r.count is None]

    assert [(r.image, r.truth) for r in failed] == [("b.jpg", 1)]
    assert "b.jpg" in failed[0].message


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_pictures_and_each_is_counted_once(tmp_path, monkeypatch, processes):
    names = [f"{number}.jpg" for number in range(5)]
    make_own(tmp_path, [f"{name},cups,1,1" for name in names], names)
    samples = load_dataset(tmp_path, splits=["all"]).split("all")
    monkeypatch.setenv("WORLD_SIZE", str(processes))

    shares = []
    for rank in range(processes):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(list(evaluate(Answers(), samples)))

    sent = json.dumps(
        [[[row.as_json() for row in picture] for picture in share] for share in shares]
    )
    monkeypatch.setattr("clipcount_cli.distributed.gather", lambda own: json.loads(sent))
    assert [r.image for r in gathered(shares[0])] == [s.name for s in samples]


# --- files


def test_csv_has_a_line_for_each_row_and_empty_cells_where_it_failed():
    text = as_csv([row(3, 4.5, name='a, "b".jpg'), row(2, None)])

    assert text == (
        'image,prompt,count,truth,error\n"a, ""b"".jpg",p,4.5000,3,1.5000\na.jpg,p,,2,\n'
    )


def test_a_count_that_is_no_number_is_a_failed_row_and_in_no_figure(tmp_path):
    make_own(tmp_path, ["a.jpg,cups,1,1", "b.jpg,pens,1,1"], ["a.jpg", "b.jpg"])

    rows = rows_of(tmp_path, Answers(cups=math.nan, pens=2.0))

    assert [(r.image, r.count) for r in rows] == [("a.jpg", None), ("b.jpg", 2.0)]
    assert "--precision fp32" in rows[0].message
    metrics = Metrics.of(rows)
    assert (metrics.failed, metrics.mae) == (1, 1)


@pytest.mark.parametrize(("tiles", "used"), [(1, 1), (4, 4), ("auto", 3)])
def test_images_are_counted_with_the_tiles_asked_for_or_chosen(tmp_path, tiles, used):
    make_own(tmp_path, ["a.jpg,cups,1,1"], ["a.jpg"])
    counter = Answers(cups=1.0)

    (counted,) = rows_of(tmp_path, counter, tiles=tiles)

    assert counter.tiles == [used]
    assert counted.tiles == used


def test_a_row_of_a_much_shrunk_image_says_so(tmp_path):
    make_own(tmp_path, ["a.jpg,cups,1,1"], [])
    draw(tmp_path / "images" / "a.jpg", 200, 200)

    (counted,) = rows_of(tmp_path, Answers(cups=1.0))

    assert counted.message == "shrunk 8x, try --tiles 4"


def test_a_failed_row_carries_the_hint_of_its_error(tmp_path):
    make_own(tmp_path, ["a.heic,cups,1,1"], [])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))

    (failed,) = rows_of(tmp_path, Answers())

    assert failed.count is None
    assert "a.heic" in failed.message
    assert failed.message.endswith(")")


def test_worst_rows_come_first_and_failed_ones_not_at_all():
    rows = [row(1, 1, name="fine"), row(5, None, name="failed"), row(9, 0, name="bad")]

    assert [r.image for r in worst(rows, 2)] == ["bad", "fine"]


def label_extents(rows):
    from matplotlib.figure import Figure

    from clipcount_cli.evaluation.plot import draw_scatter

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = draw_scatter(figure, rows, "title")
    figure.draw_without_rendering()
    return axes, [Text.get_window_extent(text) for text in axes.texts]


def test_labels_of_the_scatter_plot_cover_neither_each_other_nor_the_frame():
    rows = [row(2000 + n, 300.0 + n, name=f"a/rather/long/name/{n}.jpg") for n in range(6)]

    axes, extents = label_extents([*rows, row(5, 6, name="b"), row(0, 0.0, name="c")])

    assert len(extents) == 5
    assert not any(a.overlaps(b) for a, b in itertools.combinations(extents, 2))
    assert all(axes.bbox.contains(*e.min) and axes.bbox.contains(*e.max) for e in extents)


def test_labels_of_the_scatter_plot_name_the_prompt_where_an_image_has_several():
    pairs = [("a", "nuts", 9), ("a", "bolts", 20), ("b", "nuts", 30)]
    rows = [replace(row(truth, 0.0, name=name), prompt=prompt) for name, prompt, truth in pairs]

    axes, _ = label_extents(rows)

    assert {text.get_text() for text in axes.texts} == {"a: nuts", "a: bolts", "b"}


@pytest.mark.parametrize(
    ("pairs", "scale", "limits"),
    [
        ([(20, 25.0), (60, 50.0)], "linear", (17.6, 62.4)),
        ([(0, 0.0), (3700, 12.5)], "symlog", (-0.1, 6100)),
        ([(7, 7.2)], "linear", (6.5, 7.7)),
    ],
)
def test_axes_of_the_scatter_plot_fit_the_data(pairs, scale, limits):
    axes, _ = label_extents([row(truth, count) for truth, count in pairs])

    assert axes.get_xscale() == axes.get_yscale() == scale
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx(limits, rel=0.01)


@pytest.mark.parametrize("rows", [[], [row(0, 0.0)], [row(0, 3.0), row(3700, 12.5, name="$x^$")]])
def test_scatter_plot_copes_with_zero_and_with_nothing(tmp_path, rows):
    write_scatter(rows, tmp_path / "plot.png", "a $title")

    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
