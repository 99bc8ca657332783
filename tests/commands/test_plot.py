"""`mlrs plot` in all its forms."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def runs(mlrs: Any) -> str:
    for seed in (0, 1):
        words = f"transfer --schedule cosine:lr=0.2 --model mlp --dataset digits --epochs 2 --seed {seed} --out run{seed} -q"
        assert mlrs(words).code == 0
    return "run0 run1"


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures(mlrs: Any, runs: str, ending: str, magic: bytes) -> None:
    result = mlrs(f"plot {runs} cifar10-resnet18 --output p.{ending} --json")
    assert result.code == 0, result.err
    assert result.json["path"] == f"p.{ending}"
    assert result.json["lines"][0] == "cosine:lr=0.2 · mlp on digits (2 seeds)"
    first = Path(f"p.{ending}").read_bytes()
    assert first.startswith(magic)
    mlrs(f"plot {runs} cifar10-resnet18 --output p.{ending}")
    assert Path(f"p.{ending}").read_bytes() == first, "the same picture has the same bytes"


def test_runs_of_the_same_name_are_told_apart_by_their_folders(mlrs: Any) -> None:
    for steps in (3, 5):
        mlrs(f"transfer --schedule cosine --model mlp --dataset digits --steps {steps} --out of{steps} -q")
    lines = mlrs("plot of3 of5 of3 --json").json["lines"]
    assert lines == ["cosine [of3]", "cosine [of5]"]


def test_every_mark_of_a_picture_is_named(mlrs: Any, runs: str) -> None:
    assert mlrs(f"plot {runs} cifar10-resnet18 --log --output p.svg").code == 0
    text = Path("p.svg").read_text()
    for words in ("learning rate", "training loss (nats)", "test accuracy (%)", "update", "cosine:lr=0.2"):
        assert f"<!-- {words}" in text


def test_in_the_terminal(mlrs: Any, runs: str) -> None:
    pytest.importorskip("plotext", reason="an optional package")
    result = mlrs(f"plot {runs} --terminal")
    assert result.code == 0, result.err
    for words in ("learning rate", "training loss (nats)", "test accuracy (%)"):
        assert words in result.out
    assert "\x1b" not in result.out
    assert max(map(len, result.out.splitlines())) <= 200
    assert not list(Path().glob("*.png"))


def test_a_page(mlrs: Any, runs: str) -> None:
    pytest.importorskip("plotly", reason="an optional package")
    result = mlrs(f"plot {runs} cifar10-resnet18 --output page.html")
    assert result.code == 0, result.err
    text = Path("page.html").read_text()
    assert 'src="http' not in text
    assert "<title>mlrs" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_in_a_browser_with_no_network(mlrs: Any, runs: str) -> None:
    pytest.importorskip("plotly", reason="an optional package")
    assert mlrs(f"plot {runs} cifar10-resnet18 --output page.html").code == 0
    assert CHROMIUM is not None
    # Press the log button and the first name of the legend as a reader would, then note what stands on the page.
    script = """<script>window.addEventListener('load', async () => {
      const page = document.getElementById('curves'), wait = t => new Promise(done => setTimeout(done, t));
      await wait(500);
      const before = page._fullLayout.yaxis.type;
      await Plotly.relayout(page, page.layout.updatemenus[0].buttons[1].args[0]);
      Plotly.Fx.hover(page, [{curveNumber: 0, pointNumber: 3}]);
      await wait(200);
      const hovered = document.querySelectorAll('.hoverlayer text').length;
      const shown = () => page.querySelectorAll('.scatterlayer .trace').length, all = shown();
      document.querySelector('.legendtoggle').dispatchEvent(new MouseEvent('mousedown'));
      document.querySelector('.legendtoggle').dispatchEvent(new MouseEvent('mouseup'));
      await wait(1000);
      document.title = [before, page._fullLayout.yaxis.type, hovered > 0, all, shown()].join(' ');
    });</script>"""
    Path("page.html").write_text(Path("page.html").read_text().replace("</body>", script + "</body>"))
    url = Path("page.html").resolve().as_uri()
    chromium = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--user-data-dir=chr",
    ]
    done = subprocess.run(
        [*chromium, "--virtual-time-budget=10000", "--dump-dom", url], capture_output=True, text=True, timeout=120
    )
    title = done.stdout.split("<title>")[1].split("</title>")[0].split()
    assert title[:3] == ["linear", "log", "true"], title
    assert int(title[4]) < int(title[3]), "a click in the legend switches lines off"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("plot cifar10-resnet18 --output p.gif", 2, ".png, .svg, .pdf, .html"),
        ("plot cifar10-resnet18 --terminal --json", 2, "--terminal writes no file"),
        ("plot nowhere", 3, "no schedule 'nowhere'"),
        ("plot cifar10-resnet18 --budget 0", 2, "budget"),
    ],
)
def test_errors(mlrs: Any, words: str, code: int, message: str) -> None:
    result = mlrs(words)
    assert result.code == code, result.err
    assert message in result.err


def test_a_finished_run_is_drawn_without_torch(mlrs: Any, runs: str) -> None:
    script = (
        "import sys; from mlrs_cli.commands.app import app\n"
        "try: app(['plot', 'run0', 'cifar10-resnet18', '-o', 'p.png'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
