"""The moving picture of the README: films of some episodes of a run, side by side.

`foretell train pets/cartpole --out runs/picture`, `foretell film runs/picture --episodes 0 1 2`, then
`python benchmarks/moving_picture.py runs/picture --episodes 0 1 2 --out docs/results/cartpole.gif`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image

_WIDTH, _EVERY = 240, 3
"""Pixels of one film, and how many frames become one."""


def frames(videos: Sequence[Path]) -> list[Image.Image]:
    """Frames of films of the same length side by side, with few colours."""
    films = [iio.imread(path, plugin="FFMPEG")[::_EVERY] for path in videos]
    rows = [np.concatenate(shown, axis=1) for shown in zip(*films, strict=True)]
    height = round(_WIDTH * films[0].shape[1] / films[0].shape[2])
    size = (_WIDTH * len(films), height)
    return [Image.fromarray(row).resize(size, Image.Resampling.LANCZOS).quantize(128) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    first, *others = frames([args.run / "videos" / f"run-episode-{number}.mp4" for number in args.episodes])
    first.save(args.out, save_all=True, append_images=others, duration=20 * _EVERY, loop=0, optimize=True)


if __name__ == "__main__":
    main()
