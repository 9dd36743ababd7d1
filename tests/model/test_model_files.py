"""The files of a model, without `transformers`: an INT8 model's own, and whether a checkpoint's are all there."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from checks.capstone.accuracy import linears
from checks.model import folder, int8
from checks.model.folder import BadModel
from checks.model.smooth import NOTHING, Smoothed
from kernels.linear import Int8Linear, Int8LinearOnCpu
from kernels.runtime import device

K, N = 16, 32


def model(bias: bool = True, first: str = "up", last: str = "down", wide: int = N, extra: bool = False):
    """Two linear layers and a norm between them, in FP16."""
    parts = {first: torch.nn.Linear(K, wide, bias=bias), "norm": torch.nn.LayerNorm(wide, bias=bias),
             last: torch.nn.Linear(wide, K, bias=bias)}
    if extra:
        parts["extra"] = torch.nn.Linear(K, K, bias=bias)
    return torch.nn.Sequential(torch.nn.ModuleDict(parts)).half().to(device()).requires_grad_(False)


def saved(path, of, smoothed=NOTHING, skip=()):
    """The INT8 twin of a model, written to `path`."""
    twin = int8.quantize_(int8.twin_of(of), skip)
    int8.save(twin, path, {"skip": list(skip), "smooth": None}, smoothed)
    return twin


@pytest.mark.parametrize(("bias", "skip"), [(True, ()), (False, ()), (True, ("down",)), (False, ("0.up",))])
def test_an_int8_model_comes_back_from_its_file(tmp_path, bias, skip):
    there = model(bias)
    inputs, outputs = {"0.up": torch.rand(K)}, {"0.down": torch.rand(K), "0.up": torch.rand(N)}
    twin = saved(tmp_path / "q", there, Smoothed(inputs, outputs, ("0.down",)), skip)
    other = model(bias)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    loaded, smoothed = int8.load(other, tmp_path / "q")
    assert int8.read_record(tmp_path / "q") == {"format": int8.FORMAT, "layers": list(int8.int8_layers(twin)),
                                                "skip": list(skip), "smooth": None}
    assert int8.int8_layers(loaded).keys() == int8.int8_layers(twin).keys() and len(linears(loaded)) == len(skip)
    assert [type(part) for part in loaded.modules()] == [type(part) for part in twin.modules()]
    want, got = twin.state_dict(), loaded.state_dict()
    assert want.keys() == got.keys() and all(torch.equal(value, got[name]) for name, value in want.items())
    assert not any(layer.training for layer in int8.int8_layers(loaded).values())
    assert not any(value.requires_grad for value in loaded.parameters())
    for held, factors in ((smoothed.inputs, inputs), (smoothed.outputs, outputs)):
        assert held.keys() == factors.keys() and all(torch.equal(held[name].cpu(), factors[name]) for name in factors)
    assert smoothed.left == ("0.down",)
    after = other.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(("of", "into", "said"), [
    ({"bias": False}, {"bias": True}, "0.up.bias does not fit"), ({"bias": True}, {"bias": False}, "0.up.bias does not fit"),
    ({"first": "gate"}, {}, "this one has no linear layer 0.gate"), ({"wide": 2 * N}, {}, "size mismatch for 0.up.weight_q"),
    ({"last": "out"}, {}, "this one has no linear layer 0.out"),
    ({"extra": True}, {}, "this one has no linear layer 0.extra"),
])
def test_a_file_of_another_model_is_refused(tmp_path, of, into, said):
    saved(tmp_path / "q", model(**of))
    with pytest.raises(BadModel, match=f"q was made from another model: .*{said}"):
        int8.load(model(**into), tmp_path / "q")


@pytest.mark.parametrize("missing", ["0.up.weight_q", "0.up.weight_scale", "0.up.bias", "0.down.weight_q", "0.down.bias"])
def test_a_file_that_lacks_a_tensor_is_refused(tmp_path, missing):
    saved(tmp_path / "q", model())
    tensors = load_file(tmp_path / "q")
    del tensors[missing]
    record = json.dumps(int8.read_record(tmp_path / "q"))
    save_file(tensors, tmp_path / "q", {"int8_matmul_workshop": record})
    with pytest.raises(BadModel, match=f"was made from another model: {missing} does not fit"):
        int8.load(model(), tmp_path / "q")


@pytest.mark.parametrize(("metadata", "said"), [
    (None, "is no INT8 model that this command saved .KeyError"),
    ({"int8_matmul_workshop": "{"}, "is no INT8 model that this command saved .JSONDecodeError"),
    ({"int8_matmul_workshop": "{}"}, "holds None, and this version of the workshop reads 'int8 rows"),
    ({"int8_matmul_workshop": '{"format": "int4"}'}, "holds 'int4', and this version of the workshop reads 'int8 rows"),
    ("text", "is no INT8 model that this command saved .SafetensorError"),
    ("nothing", "is no INT8 model that this command saved .FileNotFoundError"),
])
def test_a_file_that_is_no_int8_model_is_refused(tmp_path, metadata, said):
    if metadata == "text":
        (tmp_path / "q").write_text("a few words")
    elif metadata != "nothing":
        save_file({"x": torch.zeros(1)}, tmp_path / "q", metadata)
    with pytest.raises(BadModel, match=said):
        int8.load(model(), tmp_path / "q")


def test_a_twin_shares_what_is_not_replaced():
    there = model()
    there.register_buffer("table", torch.arange(3))
    twin = int8.twin_of(there)
    assert twin is not there and [name for name, _ in twin.named_modules()] == [name for name, _ in there.named_modules()]
    for name, tensor in there.state_dict(keep_vars=True).items():
        assert twin.state_dict(keep_vars=True)[name] is tensor
    int8.quantize_(twin, ("0.up",))
    assert type(linears(there)["0.down"]) is torch.nn.Linear and list(int8.int8_layers(twin)) == ["0.down"]
    assert linears(twin)["0.up"].weight is linears(there)["0.up"].weight


def test_what_is_shared_is_counted_and_saved_once(tmp_path):
    there = model(bias=False, extra=True)
    there[0]["extra"].weight = there[0]["norm"].weight  # of another use, but the same place
    there.register_buffer("table", torch.zeros(5, dtype=torch.float64, device=device()))
    assert int8.weight_bytes(there) == 2 * (K * N + N + N * K) + 8 * 5
    twin = int8.quantize_(int8.twin_of(model(extra=True)), ("extra",))
    twin[0]["extra"].weight = twin[0]["norm"].weight
    int8.save(twin, tmp_path / "q", {}, NOTHING)
    names = set(load_file(tmp_path / "q"))
    assert len({"0.norm.weight", "0.extra.weight"} & names) == 1 and {"0.norm.bias", "0.extra.bias"} <= names


def test_what_has_nothing_to_quantize_is_refused():
    with pytest.raises(BadModel, match="the model has no torch.nn.Linear"):
        int8.quantize_(torch.nn.Sequential(torch.nn.LayerNorm(K)), ())
    with pytest.raises(BadModel, match="skip must hold names of linear layers"):
        int8.quantize_(model(), ("u",))
    with pytest.raises(BadModel, match="float32"):
        int8.quantize_(torch.nn.Sequential(torch.nn.Linear(K, N)), ())


@pytest.mark.parametrize("interpreted", [True, False])
def test_layers_run_in_torch_where_kernels_are_interpreted(monkeypatch, tmp_path, interpreted):
    monkeypatch.setattr(int8, "INTERPRETED", interpreted)
    made = saved(tmp_path / "q", model(), skip=("down",))
    for twin in (made, int8.load(model(), tmp_path / "q")[0]):
        assert type(twin[0]["up"]) is (Int8LinearOnCpu if interpreted else Int8Linear)
        assert [type(twin[0][name]) for name in ("norm", "down")] == [torch.nn.LayerNorm, torch.nn.Linear]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize(("text", "said"), [
    ("", "is not whole JSON"), ('{"weight_map": {', "is not whole JSON"), ("[]", "holds list, and an object is needed"),
    ("null", "holds NoneType, and an object is needed"), ("{}", None), ('{"weight_map": []}', None)])
def test_a_damaged_json_of_a_checkpoint_is_a_sentence(tmp_path, name, text, said):
    for other in ("config.json", "tokenizer.json"):
        (tmp_path / other).write_text("{}")
    (tmp_path / name).write_text(text)
    otherwise = "has no weight_map" if "index" in name else "lacks 1 of 1 files"
    with pytest.raises(BadModel, match=said or otherwise) as caught:
        folder.look_into(tmp_path)
    assert name in str(caught.value) or not said


@pytest.mark.parametrize("pickles", [(), ("training_args.bin",), ("pytorch_model.bin",)])
@pytest.mark.parametrize(("indexed", "missing", "said"), [
    (True, (), None), (True, (2,), "lacks 1 of 3 files with weights: 2.safetensors"),
    (True, (1, 3), "lacks 2 of 3 files with weights: 1.safetensors, 3.safetensors"),
    (True, (1, 2, 3), "lacks 3 of 3 files with weights: 1.safetensors, 2.safetensors, 3.safetensors"),
    (False, (), None), (False, ("model",), "lacks 1 of 1 files with weights: model.safetensors"),
])
def test_which_files_with_weights_are_missing(tmp_path, indexed, missing, said, pickles):
    """Pickles are the reason only where nothing says that there were safetensors."""
    names = (1, 2, 3) if indexed else ("model",)
    for name in set(names) - set(missing):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    for name in pickles:
        (tmp_path / name).write_bytes(b"")
    if indexed:
        index = {"weight_map": {f"layer.{number}": f"{number % 3 + 1}.safetensors" for number in range(9)}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    if said is None:
        assert folder._shards(tmp_path) == tuple(tmp_path / f"{name}.safetensors" for name in names)
    else:
        with pytest.raises(BadModel, match=said if indexed or not pickles else r"has its weights as pickles \(\*.bin\)"):
            folder._shards(tmp_path)
