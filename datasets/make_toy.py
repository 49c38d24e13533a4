"""Makes the toy data sets: procedural street scenes in the folders and formats of the real ones.

python datasets/make_toy.py                                   all of them, 200 + 50 frames each
python datasets/make_toy.py --layouts gta5 cityscapes --count 50
python datasets/make_toy.py --preview toy.png                 only a contact sheet
"""

try:
    from shared.cli import run
except ImportError as error:
    raise SystemExit(f"{error}: run `pip install -e .`, or another 'shared' hides ours") from None

from shared.toy.command import main

if __name__ == "__main__":
    run(main)
