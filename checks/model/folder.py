"""A causal language model in a local folder, as `transformers` saves one: what is in it, whether it fits, loading it.

`transformers` is imported where it is used: it takes seconds, and the workshop does without it.
"""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from checks.paths import ROOT
from kernels.runtime import INTERPRETED, device

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float16}
"""What each of a checkpoint's formats is loaded as: the kernels have no FP32."""
NEEDED = 1.6  # of the FP16 model's bytes: the INT8 one is beside it, with room for what the layers compute
SLACK_BYTES = 1 << 28


class BadModel(RuntimeError):
    """What is in the folder, or was asked for, cannot be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A folder with a checkpoint, before it is loaded."""

    folder: Path
    config: dict[str, Any]
    shards: tuple[Path, ...]
    stored: str  # the format of most of its weights, as safetensors names it

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.stored]

    @property
    def bytes_loaded(self) -> int:
        return sum(path.stat().st_size for path in self.shards) * 2 // (4 if self.stored == "F32" else 2)


def label(dtype: torch.dtype) -> str:
    """"FP16" or "BF16"."""
    return "BF16" if dtype is torch.bfloat16 else "FP16"


def offer_transformers(ask=input) -> None:
    """Install `transformers` where it is missing and the user wants it. Raises BadModel where it stays missing."""
    if importlib.util.find_spec("transformers") is not None:
        return
    pin, = re.findall(r"^transformers==\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    command = [sys.executable, "-m", "pip", "install", pin]
    needs = f"this command needs {pin.replace('==', ' ')}, which the workshop itself does without"
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadModel(f"{needs}: install it with\n    {' '.join(command)}")
    if ask(f"{needs} (120 MB). Install it now? [y/N] ").strip().lower() not in ("y", "yes"):
        raise BadModel(f"nothing was installed. Later: {' '.join(command)}")
    if subprocess.run(command).returncode:
        raise BadModel("pip could not install it: see above")
    importlib.invalidate_caches()


def look_into(folder: Path) -> Found:
    """What a folder holds. Raises BadModel where it is no checkpoint that this command can load."""
    if not folder.is_dir():
        raise BadModel(f"there is no folder {folder}. Nothing is downloaded here: give the folder of a checkpoint that is "
                       "on this machine, with config.json, *.safetensors and the tokenizer's files")
    if not (folder / "config.json").exists():
        raise BadModel(f"{folder} has no config.json, so it is no checkpoint of transformers")
    config = _json(folder / "config.json")
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "some method")
        raise BadModel(f"{folder} is quantized already, by {method}: give the FP16 or BF16 checkpoint that it was made from")
    if "auto_map" in config:
        raise BadModel(f"{folder} brings Python code of its own, which is not run here: give a model whose architecture "
                       "transformers has")
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        raise BadModel(f"{folder} has no tokenizer (tokenizer.json): copy the tokenizer's files beside the weights")
    shards = _shards(folder)
    return Found(folder, config, shards, _stored(shards))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise BadModel(f"{path} is not whole JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadModel(f"{path} holds {type(found).__name__}, and an object is needed: copy it again")
    return found


def _shards(folder: Path) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = _json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise BadModel(f"{index} has no weight_map, which names the files with weights: copy it again")
        shards = tuple(folder / name for name in sorted(set(weight_map.values())))
    else:
        shards = (folder / "model.safetensors",)
    missing = [path.name for path in shards if not path.exists()]
    if not missing:
        return shards
    if not index.exists() and list(folder.glob("*.bin")):
        raise BadModel(f"{folder} has its weights as pickles (*.bin), which can run code when they are opened: convert them "
                       "to safetensors with save_pretrained(…), or take the safetensors of the same model")
    raise BadModel(f"{folder} lacks {len(missing)} of {len(shards)} files with weights: {', '.join(missing[:3])}")


def _stored(shards: tuple[Path, ...]) -> str:
    counts: dict[str, int] = {}
    for path in shards:
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  it is no dictionary
                    part = file.get_slice(name)
                    size = 1
                    for side in part.get_shape():
                        size *= side
                    counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + size
        except (SafetensorError, OSError) as error:
            raise BadModel(f"{path} is no whole safetensors file ({error}): copy it again") from None
    most = max(counts, key=lambda name: counts[name], default="")
    if most not in DTYPES:
        raise BadModel(f"the weights in {shards[0].parent} are {most or 'none'}, and FP16, BF16 or FP32 is needed")
    return most


def free_bytes() -> int:
    """The memory that is free where the model goes: the GPU's, or this machine's."""
    if not INTERPRETED:
        return torch.cuda.mem_get_info()[0]
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found.group(1)) * 1024 if found else 1 << 62


def expect_room(found: Found, free: int) -> None:
    """Raises BadModel where the model, in FP16 and in INT8 side by side, needs more than `free` bytes."""
    needed = int(found.bytes_loaded * NEEDED) + SLACK_BYTES
    if needed > free:
        raise BadModel(f"{found.folder} needs {needed / 1e9:.1f} GB, for it is held in {label(found.dtype)} and in INT8 "
                       f"side by side, and {'this machine' if INTERPRETED else 'this GPU'} has {free / 1e9:.1f} GB free: "
                       "take a smaller model")


def quiet() -> None:
    """Nothing is fetched, and no bars or advice come between what this command says."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is first imported
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def load(found: Found) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder, the model for inference, where the kernels run. Raises BadModel."""
    quiet()
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(found.folder, local_files_only=True)
    except Exception as error:  # of many kinds, by tokenizer
        raise BadModel(f"the tokenizer in {found.folder} cannot be read: {first_line(error)}") from None
    try:
        model, notes = transformers.AutoModelForCausalLM.from_pretrained(
            found.folder, dtype=found.dtype, local_files_only=True, use_safetensors=True, output_loading_info=True,
            ignore_mismatched_sizes=True)
    except Exception as error:  # of many kinds, by architecture
        raise BadModel(f"transformers {transformers.__version__} cannot load {found.folder}: {first_line(error)}") from None
    missing = sorted(notes["missing_keys"])
    if missing or notes["mismatched_keys"]:
        wrong = missing or sorted(str(key) for key in notes["mismatched_keys"])
        raise BadModel(f"the weights in {found.folder} do not fit its config.json: {len(wrong)} of them are missing or have "
                       f"another shape, {wrong[0]} first")
    return model.to(device()).eval().requires_grad_(False), tokenizer


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
