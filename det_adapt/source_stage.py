"""MODEL.WEIGHTS of an adaptation: the source-only run that it starts from."""

from pathlib import Path

from shared.config import CONFIGS
from shared.errors import MissingFileError, UserError
from shared.run.folder import checkpoint_of, is_finished, settings_of


def resolve_weights(weights: str) -> str:
    """MODEL.WEIGHTS with the folder of a run replaced by its last checkpoint.

    Raises:
        MissingFileError: there is no such run; the message has the command that makes it.
        UserError: it is not finished.
    """
    if weights in ("", "torchvision", "timm") or "://" in weights or Path(weights).is_file():
        return weights
    if weights.startswith("pip:"):
        return weights
    path = Path(weights)
    if path.suffix in (".pt", ".pth", ".pkl"):
        raise MissingFileError(f"no file '{weights}' (MODEL.WEIGHTS)")
    checkpoint = checkpoint_of(path)
    config = source_config(weights)
    command = f"street-adapt train --config-file {config.stem}" if config else ""
    if checkpoint is not None and settings_of(path) and not is_finished(path):
        hint = f" ({command} --resume)" if command else ""
        raise UserError(
            f"MODEL.WEIGHTS is '{weights}', a run that was not trained and scored to its end: "
            f"resume it{hint}, or name its checkpoint {checkpoint}"
        )
    if checkpoint is not None:
        return str(checkpoint)
    hint = (
        f"make it with: {command}"
        if command
        else "expected a file, the folder of a run, torchvision, or '' to train from scratch"
    )
    raise MissingFileError(f"MODEL.WEIGHTS is '{weights}', where there is no checkpoint; {hint}")


def source_config(weights: str) -> Path | None:
    """The experiment that fills the folder `runs/<name>`; None where none does."""
    config = CONFIGS / f"{Path(weights).name}.yaml"
    return config if weights and config.is_file() else None
