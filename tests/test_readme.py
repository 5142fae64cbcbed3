"""What README.md says is what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments import _readme as readme
from lens_utils.models import load_model

TEXT = readme.README.read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_generated_parts_are_current() -> None:
    assert readme.rewritten(TEXT) == TEXT, "run `python -m experiments._readme`"


def test_a_missing_marker_is_an_error() -> None:
    with pytest.raises(ValueError, match="<!-- models -->"):
        readme.rewritten(TEXT.replace("<!-- models -->", ""))


def test_the_notebook_example_runs_and_its_hook_acts() -> None:
    (example,) = [code for code in PYTHON if "run_with_hooks" in code]
    names: dict = {}
    exec(compile(example, "README", "exec"), names)
    assert names["cache"]["pattern", 0].ndim == 4
    with torch.no_grad():
        plain = load_model("zoo-stories-1l")("Tom was happy. He said")
    assert (names["patched"] - plain).abs().max() > 0.01


def test_the_example_experiment_is_short_and_runs(tmp_path: Path) -> None:
    (example,) = [code for code in PYTHON if "class Config" in code]
    assert example.count("\n") < 60
    (tmp_path / "residual_size.py").write_text(example)
    run = [sys.executable, "-m", "residual_size", "--out", "made"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = tmp_path / "made" / "residual_size" / "zoo-attn-2l" / "norms.csv"
    assert written.read_text().count("hook_resid_post") == 2
