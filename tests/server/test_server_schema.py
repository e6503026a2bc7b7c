"""Whatever the API's own description allows, and much that it does not, gets an answer that the description knows: no
request makes the server fail.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from serving import ENDED, Server

pytest.importorskip("schemathesis")

EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "")
"""Requests of each kind; `make serve-check` makes many, and has every field at its bounds as well."""

WITHOUT = "positive_data_acceptance"
"""Not checked: that all is done which the description allows. What a model can do, and what one server's limits are, it
cannot say."""


@pytest.mark.timeout(1200)
def test_requests_made_from_its_own_description_find_no_fault_of_the_server(tiny_model, tmp_path):
    server = Server(tmp_path, "--model", "tiny", "--max-new-tokens", "8", "--max-batch", "4").wait()
    try:
        words = ["run", f"{server.url}/openapi.json", "--checks=all", f"--exclude-checks={WITHOUT}", "--no-color"]
        words += [f"--max-examples={EXAMPLES or 6}", f"--phases={'coverage,' if EXAMPLES else ''}fuzzing"]
        words += ["--warnings=off", "--request-timeout=60", "--max-response-time=60"]  # a busy machine is no fault
        found = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *words],
            cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
        assert "No issues found" in found.stdout, found.stdout
        assert server.ask("/health").status_code == 200
        assert "minigpt_engine_deaths 0.0" in server.ask("/metrics").text
    finally:
        assert server.end() == ENDED
