"""`python scripts/scenes fetch` fetches pictures for scenes, `... sheet` draws a contact sheet."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # where the package `scenes` lies

from scenes import fetch, sheet  # noqa: E402

COMMANDS = {"fetch": fetch.main, "sheet": sheet.main}

if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
    sys.exit(f"usage: python scripts/scenes {{{','.join(COMMANDS)}}} [OPTIONS]")
command = sys.argv.pop(1)
sys.argv[0] += f" {command}"
COMMANDS[command]()
