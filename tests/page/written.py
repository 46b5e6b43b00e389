"""Run directories that were written by hand, and the data in a page."""

import html
import json
import re

from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from tiny import LINE


def write_run(folder, returns, preset="pets/default", kind="train", seed=0, env=LINE, success=(), **changes):
    """A run directory whose episodes of this kind had these returns, one each 100 steps and 2 seconds."""
    folder.mkdir(parents=True)
    directory = RunDirectory(folder)
    directory.write_config(resolve(preset, [{"task": {"env": env}}, changes]), preset, seed)
    lines = ["episode,env_steps,kind,return,length,end,success,wall_seconds", "0,100,random,-1,100,limit,,1.0"]
    said = [*map(int, success), *[""] * (len(returns) - len(success))]
    rows = enumerate(zip(returns, said, strict=True))
    lines += [f"{i + 1},{100 * (i + 2)},{kind},{value},100,limit,{one},{2.0 * i + 3}" for i, (value, one) in rows]
    (folder / "episodes.csv").write_text("\n".join(lines) + "\n")
    return folder


def data_of(page):
    """What the page's script draws."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))


def text_of(page):
    """The page without its scripts and its style, as it is read."""
    visible = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", visible)).split())
