"""Looks through data sets before anything is trained on them; writes nothing into them.

python datasets/check.py gta5 cityscapes_train cityscapes_val
python datasets/check.py all --sheet check.png        every data set that is there
python datasets/check.py all --sample 100             a quick look: 100 files of each

Ends with 0 where no error was found, 1 where one was, 2 where the check could not be made.
"""

try:
    from shared.cli import run
except ImportError as error:
    raise SystemExit(f"{error}: run `pip install -e .`, or another 'shared' hides ours") from None

from shared.data.checker import main

if __name__ == "__main__":
    run(main)
