"""Laws of `tocsin trace`: what the files of a pipeline tell of single messages and alerts, beside it."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingest.dead_letters import DeadLetters, Selection
from ingest.journal import Journal
from ingest.refusals import RESERVED_NAMES_PLACEHOLDER as _  # replaced below
