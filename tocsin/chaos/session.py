"""A whole session: a directory for the evidence, the campaign, the verdict, the report."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from telemetry import TocsinError
from tocsin.chaos.campaign import Campaign, Options, Say
from tocsin.chaos.oracle import judge
from tocsin.chaos.report import as_json, as_table


def run_chaos(
    options: Options, keep: Path | None, *, stop: threading.Event, say: Say
) -> tuple[dict[str, Any], list[str]]:
    """The result, and the same as lines of text. Raises TocsinError, CampaignInterrupted.

    `keep`: an empty directory, or one to be made; None: a temporary one, which stays if something is wrong.
    """
    directory = _directory(keep)
    remains = keep is not None
    try:
        campaign = Campaign(options, directory, stop=stop, say=say)
        try:
            campaign.run()
            say("comparing what was sent with what is there")
            findings = judge(campaign.witness, campaign.config, campaign.data)
        except TocsinError:
            remains = True
            say(f"the evidence is kept in {directory}")
            raise
        result = as_json(options, campaign.outcome, findings, evidence=str(directory))
        remains = remains or not result["ok"]
        if remains:
            say(f"the evidence is kept in {directory}")
        else:
            result["evidence"] = None
        return result, list(as_table(result))
    finally:
        if not remains:
            shutil.rmtree(directory, ignore_errors=True)


def _directory(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="tocsin-chaos-"))
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise TocsinError(f"{keep} is not empty: name another directory with --keep, or empty it")
    return keep.absolute()
