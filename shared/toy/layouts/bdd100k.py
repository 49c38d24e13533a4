"""BDD100K segmentation: `images/10k/<split>/<id>.jpg`, `labels/sem_seg/masks/<split>/<id>.png`."""

from shared.data.label_maps import lookup_table
from shared.toy.layouts.base import LAYOUTS, Frame, Layout, Renderer, jpeg, png, scenes


class BDD100K(Layout):
    """Masks hold Cityscapes train ids and 255."""

    owns = ("bdd100k",)

    def frames(self, count: int, val_count: int) -> list[Frame]:
        return [
            *scenes("bdd100k", "train", "dusk", count),
            *scenes("bdd100k", "val", "dusk", val_count),
        ]

    def files(self, frame: Frame) -> tuple[str, ...]:
        name = f"{frame.number:08x}-{frame.index:08x}"
        return (
            f"bdd100k/images/10k/{frame.split}/{name}.jpg",
            f"bdd100k/labels/sem_seg/masks/{frame.split}/{name}.png",
        )

    def encode(self, frame: Frame, render: Renderer) -> dict[str, bytes]:
        toy = render(frame.domain, frame.index)
        train_ids = lookup_table("cityscapes", "cityscapes19")[toy.label_ids]
        return dict(zip(self.files(frame), (jpeg(toy.image), png(train_ids)), strict=True))


LAYOUTS.add("bdd100k", BDD100K())
