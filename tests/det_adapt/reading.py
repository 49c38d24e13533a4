"""Samples as training reads them."""

from det_adapt.data.samples import Augmentation

CLASSES = ("car", "person")


HALF = Augmentation((20,), 2000)
