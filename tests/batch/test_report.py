"""The report: one page that works from disk, tried in a real browser where there is one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from photo_folders import batch, draw, draw_folder, save_weights

from clipcount_cli.batch.pictures import Made, thumbnail
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.report import Thumbnails, script_json, thumbnails_path, write_report
from clipcount_cli.batch.rows import ResultRow
from clipcount_cli.batch.summary import totals

PDFTOTEXT = shutil.which("pdftotext")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
ATTACK = "<img src=x onerror=alert(1)>.jpg"
SETTINGS = {
    "weights": "small@01234567",
    "precision": "fp32",
    "prompts": ["</script><b>"],
    "folder": "/data/<i>Tray",
}
ROWS = 2000

# Runs inside the page, as a person would go about it, and leaves what it saw in the document.
PROBE = """
<script>
const saw = { problems: window.problems };
const click = (text) => [...document.querySelectorAll("th button")]
  .find((button) => button.textContent === text).click();
const cells = (name) => [...document.querySelectorAll(`td.${name}`)].map((c) => c.textContent);
const type = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event("input"));
};
const totals = () => [...document.querySelectorAll("#totals article")].map((article) =>
  Object.fromEntries([["prompt", article.querySelector("h3").textContent],
    ...[...article.querySelectorAll("dt")].map((dt) =>
      [dt.textContent, dt.nextSibling.textContent])]));
function look() {
  saw.drawn = document.querySelectorAll("tbody tr").length;
  saw.images = cells("image").slice(0, 3);
  click("count"); saw.most = cells("count").slice(0, 3);
  click("count"); saw.least = cells("count").slice(0, 3);
  click("image"); saw.byName = cells("image").slice(0, 2);
  type("search", "photo 12 red"); saw.found = document.getElementById("shown").textContent;
  type("search", ""); type("status", "failed"); saw.failed = cells("image");
  saw.message = cells("status");
  saw.failedTotals = totals();
  type("status", ""); type("search", "red");
  saw.redTotals = totals();
  saw.redFigures = document.getElementById("figures").textContent;
  type("search", "");
  saw.totals = totals();
  saw.bars = document.querySelectorAll("#totals article:first-child rect").length;
  saw.link = document.querySelector("header a").getAttribute("href");
  saw.heading = document.querySelector("h1").textContent;
  const picture = document.querySelector(".picture");
  const overlay = picture.querySelector(".overlay"), photo = picture.querySelector(".photo");
  saw.overlayAtFirst = getComputedStyle(overlay).visibility;
  const [plain, laid] = document.querySelectorAll(".controls .switch button");
  plain.click(); saw.overlayAfterPhoto = getComputedStyle(overlay).visibility;
  laid.click(); saw.overlayAfterOverlay = getComputedStyle(overlay).visibility;
  picture.click();
  const viewer = document.getElementById("viewer");
  saw.viewer = [viewer.open, viewer.querySelector("figcaption").textContent];
  saw.larger = viewer.querySelector(".picture").clientWidth / picture.clientWidth;
  document.getElementById("next").click();
  saw.turned = viewer.querySelector("figcaption").textContent;
  document.getElementById("close").click();
  saw.closed = !viewer.open;
  dispatchEvent(new Event("beforeprint"));
  saw.printed = document.querySelectorAll("tbody tr").length;
  return Promise.all([photo.decode(), overlay.decode()]).then(() => {
    saw.sizes = [photo.naturalWidth, overlay.naturalWidth];
    saw.elements = document.querySelectorAll("img[src=x]").length;
    saw.listed = document.querySelector("#failures li").textContent;
    saw.settings = document.querySelector("#settings").textContent;
  });
}
Promise.resolve().then(look).catch((error) => saw.problems.push(String(error))).then(() => {
  const note = document.createElement("pre");
  note.id = "saw";
  note.textContent = JSON.stringify(saw);
  document.body.append(note);
});
</script>
"""
LISTEN = """<script>
window.problems = [];
for (const kind of ["error", "securitypolicyviolation"])
  addEventListener(kind, (event) => problems.push(event.message || event.blockedURI), true);
</script>"""


def rows_and_outcomes(number):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    made = thumbnail(pixels, np.full((384, 512), 1 / 600, np.float32))
    for place in range(number):
        image = ATTACK if place == 0 else f"photo {place}.jpg"
        failed = place == 7
        yield (
            ResultRow(
                image,
                "red apples" if place % 2 else "green pears",
                None if failed else round(float(rng.gamma(2, 30)), 2),
                "failed" if failed else "ok",
                "photo 7.jpg is cut off" if failed else "",
                None if failed else 120,
                None if failed else 90,
                "small@01234567",
            ),
            SimpleNamespace(
                job=Job(image, image, ("red apples" if place % 2 else "green pears",)),
                extras=(Made(made),),
                fault="cut off" if failed else "",
            ),
        )


def make_report(path, number):
    waiting = Thumbnails(path)
    rows = []
    for row, outcome in rows_and_outcomes(number):
        rows.append(row)
        waiting.append(outcome)
    waiting.close()
    write_report(path, rows, SETTINGS, path.parent / "sub" / "out #1.csv")
    return rows


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """What a browser sees on a page of 2,000 rows."""
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    folder = tmp_path_factory.mktemp("report")
    rows = make_report(folder / "report.html", ROWS)
    page = (folder / "report.html").read_text("utf-8")
    probed = page.replace("<title>", f"{LISTEN}<title>", 1).replace("</body>", f"{PROBE}</body>")
    (folder / "probed.html").write_text(probed, "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    done = subprocess.run(
        [
            *(CHROMIUM, *flags, f"--user-data-dir={folder / 'profile'}"),
            *("--virtual-time-budget=20000", "--dump-dom", f"file://{folder / 'probed.html'}"),
        ],
        capture_output=True,
        timeout=240,
    )
    noted = re.search(r'<pre id="saw">(.*?)</pre>', done.stdout.decode(), re.DOTALL)
    assert noted, done.stderr.decode()[-2000:]
    spoken = [
        line for line in done.stderr.decode("utf-8", "replace").splitlines() if "CONSOLE" in line
    ]
    return SimpleNamespace(rows=rows, console=spoken, **json.loads(html.unescape(noted[1])))


@pytest.mark.browser
def test_a_browser_finds_nothing_to_complain_of(visit):
    assert visit.problems == []
    assert visit.console == []


@pytest.mark.browser
def test_a_page_of_thousands_draws_only_what_is_near(visit):
    assert 10 < visit.drawn < 500
    assert visit.sizes[0] == 120


@pytest.mark.browser
def test_a_click_on_a_heading_sorts(visit):
    counts = sorted(row.count for row in visit.rows if row.count is not None)

    assert visit.most == [f"{count:.2f}" for count in counts[:-4:-1]]
    assert visit.least == [f"{count:.2f}" for count in counts[:3]]
    assert visit.byName == [ATTACK, "photo 1.jpg"]


@pytest.mark.browser
def test_the_filter_leaves_what_was_asked_for(visit):
    wanted = [r for r in visit.rows if "photo" in r.image and "12" in r.image and "red" in r.prompt]

    assert visit.found == f"{len(wanted)} of 2,000 rows"
    assert visit.failed == ["photo 7.jpg"]
    assert visit.message == ["failed: photo 7.jpg is cut off"]


@pytest.mark.browser
def test_overlays_show_at_once_and_one_switch_takes_them_off(visit):
    seen = (visit.overlayAtFirst, visit.overlayAfterPhoto, visit.overlayAfterOverlay)

    assert seen == ("visible", "hidden", "visible")


@pytest.mark.browser
def test_a_click_on_a_thumbnail_enlarges_it(visit):
    first, second = visit.rows[0], visit.rows[1]

    assert visit.viewer == [True, f"{first.count:.1f}{first.prompt}{first.image}"]
    assert visit.larger > 3
    assert visit.turned == f"{second.count:.1f}{second.prompt}{second.image}"
    assert visit.closed


@pytest.mark.browser
@pytest.mark.skipif(not (CHROMIUM and PDFTOTEXT), reason="no chromium, or no pdftotext, here")
def test_the_printed_table_repeats_its_header_on_every_page(tmp_path):
    make_report(tmp_path / "report.html", 40)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'p'}"]
    printed = tmp_path / "report.pdf"
    subprocess.run(
        [CHROMIUM, *flags, f"--print-to-pdf={printed}", f"file://{tmp_path / 'report.html'}"],
        capture_output=True,
        timeout=240,
    )

    text = subprocess.run([PDFTOTEXT, "-layout", printed, "-"], capture_output=True, check=True)

    pages = text.stdout.decode().split("\f")[:-1]
    assert len(pages) > 2
    assert all(re.search(r"image +prompt +count +status +size", page) for page in pages)


@pytest.mark.browser
def test_totals_per_prompt_follow_the_filter(visit):
    expected = {total.prompt: total for total in totals(visit.rows)}

    assert [shown["prompt"] for shown in visit.totals] == list(expected)
    for shown in visit.totals:
        total = expected[shown["prompt"]]
        for name in ("total", "mean", "median", "min", "max"):
            number = float(shown[name].replace(",", ""))
            assert number == pytest.approx(getattr(total, name), abs=0.051)
        assert (shown["images"], shown["failed"]) == (f"{total.images:,}", f"{total.failed:,}")
    assert visit.redTotals == [shown for shown in visit.totals if shown["prompt"] == "red apples"]
    assert visit.failedTotals[0]["total"] == "–"
    assert visit.redFigures.startswith("images1,000rows1,000failed1counted in all")
    assert visit.bars > 5


@pytest.mark.browser
def test_all_rows_are_printed(visit):
    assert visit.printed == ROWS


@pytest.mark.browser
def test_the_page_says_of_what_it_is_and_links_to_the_csv(visit):
    assert visit.heading == "Counts in <i>Tray"
    assert visit.link == "./sub/out%20%231.csv"


@pytest.mark.browser
def test_names_and_prompts_show_as_text(visit):
    assert visit.images[0] == ATTACK
    assert visit.elements == 0
    assert "</script><b>" in visit.settings


@pytest.mark.browser
def test_failures_and_settings_are_shown(visit):
    assert visit.listed == "photo 7.jpg is cut off"
    assert "small@01234567" in visit.settings


def test_the_page_asks_nothing_of_a_network(tmp_path):
    make_report(tmp_path / "report.html", 20)

    page = (tmp_path / "report.html").read_text("utf-8")
    addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.]+", re.sub(r">[A-Za-z0-9+/=]+<", "", page)))
    assert addresses <= {"http://www.w3.org"}  # SVG's name, never fetched
    assert "default-src 'none'" in page


def test_no_text_can_leave_its_script():
    text = script_json(["</script>", "<!--", "a\u2028b"])

    assert "<" not in text
    assert json.loads(text) == ["</script>", "<!--", "a\u2028b"]


def test_batch_writes_the_report_and_tidies_up(tmp_path):
    weights = save_weights(tmp_path / "small.safetensors")
    photos = draw_folder(tmp_path / "photos", 3)
    words = (photos, "--prompt", "apples", "--prompt", "figs", "--csv", tmp_path / "out.csv")

    result = batch(weights, *words, "--report", tmp_path / "out.html")

    page = (tmp_path / "out.html").read_text("utf-8")
    assert result.exit_code == 0, result.output
    assert (page.count('id="photo'), page.count('id="overlay')) == (3, 6)
    assert not thumbnails_path(tmp_path / "out.html").exists()


def test_a_resumed_run_reports_the_earlier_pictures_too(tmp_path):
    weights = save_weights(tmp_path / "small.safetensors")
    photos = draw_folder(tmp_path / "photos", 3)
    (photos / "2.png").write_bytes(b"")
    words = (photos, "--prompt", "apples", "--csv", tmp_path / "out.csv")
    report = ("--report", tmp_path / "out.html")
    batch(weights, *words, *report, "--fail-fast")
    waiting = thumbnails_path(tmp_path / "out.html")
    with waiting.open("ab") as torn:
        torn.write(b'["3.png", "app')
    (photos / "2.png").write_bytes((photos / "1.png").read_bytes())

    result = batch(weights, *words, *report, "--resume")

    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.html").read_text("utf-8").count('id="overlay') == 3


def shown(page):
    """The photo and overlay of each row of a page."""
    text = page.read_text("utf-8")
    data = json.loads(re.search(r'id="data">(.*)</script>', text)[1])
    photos = dict(re.findall(r'id="photo(\d+)">(.*)<', text))
    overlays = re.findall(r'id="overlay(\d+)" data-photo="(\d+)">(.*)<', text)
    return {
        tuple(data["rows"][int(row)][:2]): (photos[photo], overlay)
        for row, photo, overlay in overlays
    }


def test_a_finished_page_keeps_its_pictures_when_what_failed_is_tried_again(tmp_path):
    weights = save_weights(tmp_path / "small.safetensors")
    photos = draw_folder(tmp_path / "photos", 4)
    prompts = ("--prompt", "apples", "--prompt", "figs")
    whole = tmp_path / "whole.html"
    batch(weights, photos, *prompts, "--csv", tmp_path / "whole.csv", "--report", whole)
    sound = (photos / "2.png").read_bytes()
    (photos / "2.png").write_bytes(b"")
    out = ("--csv", tmp_path / "out.csv", "--report", tmp_path / "out.html")
    failed = batch(weights, photos, *prompts, *out)
    (photos / "2.png").write_bytes(sound)

    result = batch(weights, photos, *prompts, *out, "--resume")
    repaired = shown(tmp_path / "out.html")
    again = batch(weights, photos, *prompts, *out, "--resume")

    assert (failed.exit_code, result.exit_code, again.exit_code) == (3, 0, 0), result.output
    assert len(repaired) == 8
    assert repaired == shown(whole) == shown(tmp_path / "out.html")


def test_pictures_of_another_run_are_not_taken_over(tmp_path):
    weights = save_weights(tmp_path / "small.safetensors")
    photos = draw_folder(tmp_path / "photos", 2)
    words = (photos, "--prompt", "apples", "--csv", tmp_path / "out.csv")
    report = ("--report", tmp_path / "out.html")
    batch(weights, *words, *report)
    for number in (1, 2):
        (photos / f"{number}.png").write_bytes(draw(tmp_path / "x.png", seed=9).read_bytes())
    batch(weights, *words, "--overwrite")

    result = batch(weights, *words, *report, "--resume")

    assert result.exit_code == 0, result.output
    assert shown(tmp_path / "out.html") == {}


def test_rows_that_went_to_stdout_are_in_the_report(tmp_path):
    weights = save_weights(tmp_path / "small.safetensors")
    photos = draw_folder(tmp_path / "photos", 2)

    result = batch(weights, photos, "--csv", "-", "--report", tmp_path / "out.html")

    assert result.exit_code == 0, result.output
    assert list(shown(tmp_path / "out.html")) == [("1.png", "objects"), ("2.png", "objects")]


def test_a_folder_whose_name_reverses_text_is_shown_with_the_mark(tmp_path):
    write_report(tmp_path / "page.html", [], {"folder": "/photos/a\u202egpj"})

    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count(r"Counts in a\u202egpj") == 2  # title and heading
    assert "Counts in a\u202e" not in page
