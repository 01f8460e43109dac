"""Requests made from the OpenAPI document by schemathesis: no crash, no undescribed answer."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.protocol.api import rig

EXAMPLES = 3  # of each operation
BUDGET = "50"  # seconds for all of them
LIMIT = 100.0  # seconds, with start and end
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)


def spare_own_token(document: Any) -> None:
    """Keep the requests off the token that they are made with: one that is gone proves nothing."""
    for path, operations in document["paths"].items():
        for operation in operations.values() if "/tokens/{token}" in path else ():
            for parameter in operation["parameters"]:
                if parameter["name"] == "token":
                    parameter["schema"] = {"type": "string", "enum": ["spare", "0", "nobody"]}


async def test_the_document_holds(tmp_path: Path) -> None:
    async with rig(tmp_path) as hub:
        await hub.host("h", tmp_path)
        await hub.node.destination("NORTH", hosts=("h",))
        await hub.admin.upload(b"12345", destination="NORTH")
        await hub.admin.post("/tokens", {"name": "spare"})
        document = (await hub.admin.get("/openapi.json")).json
        document["paths"].pop("/api/v2/events/stream")  # never ends
        spare_own_token(document)
        file = tmp_path / "openapi.json"
        file.write_text(json.dumps(document))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", hub.base,
            "--header", f"Authorization: Bearer {hub.admin.token}", "--header", "If-Match: *",
            "--checks", CHECKS, "--phases", "fuzzing", "--max-examples", str(EXAMPLES),
            "--seed", "1", "--generation-deterministic", "--no-color",
            "--suppress-health-check", "all", "--request-timeout", "10",
            "--max-time", BUDGET, "--continue-on-failure",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(LIMIT):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, said.decode()[-20_000:]
