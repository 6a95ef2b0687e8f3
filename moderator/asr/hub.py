"""Where a model named by a person is found: embedded, a local folder, or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moderator.asr.embedded import EMBEDDED
from moderator.errors import MODEL_LOAD, ModeratorError

TORCH_EXTRA = "live-stream-moderator[torch]"

WHISPER_SIZES = (
    *("tiny", "small", "medium", "large", "large-v2", "large-v3", "large-v3-turbo"),
    *("tiny.en", "base.en", "small.en", "medium.en"),
)
"""Whisper checkpoints that OpenAI keeps on the hub under their bare names."""


def whisper_source(model: str) -> str:
    """What `from_pretrained` takes for a Whisper: one of EMBEDDED, a folder, which is itself, a
    bare size, which is OpenAI's, or a hub id, which anything else is.

    Raises as `convert.transformers_folder` does for an embedded one.
    """
    if model in EMBEDDED:
        from moderator.asr.convert import transformers_folder

        return str(transformers_folder(model))
    folder = local_folder(model)
    if folder is not None:
        return str(folder)
    return f"openai/whisper-{model}" if model in WHISPER_SIZES else model


def local_folder(model: str) -> Path | None:
    """`model` as a folder on this machine, or None."""
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else None


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Whatever a library raises while it loads becomes LM-405, which names the model."""
    try:
        yield
    except ModeratorError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()
        raise ModeratorError(
            MODEL_LOAD, name=model, reason=reason[0] if reason else type(error).__name__
        ) from error
