"""What measured functions are given, by the names of their parameters, and whether what they give back is right.

A function takes what it names: `f(x, w)` the FP16 matrices, `f(x_q, x_scale, w_q, w_scale)` their INT8 codes and scales.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch

from checks.judge.source import python_function
from kernels.group_w8a8 import GROUP_K, quantize_int8_groups_torch
from kernels.linear import Int8Linear
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import device

CHECKED_ROWS = 2048
FP8 = torch.float8_e4m3fn
TINY = 2.0**-25  # half of FP16's least subnormal number


class Wrong(AssertionError):
    """A measured function gave a wrong result, so its time means nothing."""


def quantize_fp8_perrow(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """FP8 (e4m3) codes and FP32 scales of the rows of x, scaled so that the largest number of a row is 448."""
    scale = x.float().abs().amax(dim=1, keepdim=True) / 448
    return (x.float() / scale).to(FP8), scale


class Operands:
    """The operands of one shape, each made when it is first asked for. `vector`: x is (K,), as a GEMV takes it.

    `unit`: x wᵀ has numbers of x's size, as in a model, so that FP16 holds products of two of them.
    """

    def __init__(self, M: int, K: int, N: int, vector: bool = False, seed: int = 0, unit: bool = False):
        self.M, self.K, self.N, self.vector, self.unit = M, K, N, vector, unit
        self.generator = torch.Generator(device()).manual_seed(seed)
        self.made: dict[str, Any] = {}

    def __getitem__(self, name: str):
        if name not in self.made:
            if name not in MAKERS:
                raise LookupError(f"no operand is called {name}: a function to measure takes some of {', '.join(MAKERS)}")
            self.made.update(MAKERS[name](self))
        return self.made[name]

    def arguments(self, function: Callable) -> list:
        return [self[name] for name in operand_names(function)]

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, device=device(), dtype=torch.float16)

    def refresh(self) -> None:
        """Put new numbers where x and all that was made of it lie: whoever kept an earlier result is found out."""
        made = {name: value for name, value in self.made.items() if name in OF_X}
        self.made = {name: value for name, value in self.made.items() if name not in OF_X and not name.startswith("exact")}
        for name, place in made.items():
            place.copy_(self[name])
        self.made.update(made)

    def rows_to_check(self) -> torch.Tensor:
        """All rows, or the last and so many drawn at random that hardly a tile of rows goes without."""
        if self.M <= CHECKED_ROWS:
            return torch.arange(self.M, device=device())
        drawn = torch.randint(self.M, (CHECKED_ROWS,), generator=self.generator, device=device())
        drawn[-1] = self.M - 1
        return drawn


OF_X = ("x", "x_q", "x_scale", "x_groups_q", "x_groups_scale", "x8", "x8_scale", "source", "gate", "up", "query")


def _x(o: Operands) -> dict:
    return {"x": o.normal(o.K) if o.vector else o.normal(o.M, o.K)}


def _both(names: tuple[str, str], source: str, quantize: Callable) -> Callable[[Operands], dict]:
    return lambda o: dict(zip(names, quantize(o[source]), strict=True))


def _torchao(o: Operands) -> dict:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    linear = _linear(o)
    quantize_(linear, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    return {"torchao_linear": torch.compile(linear, dynamic=False)}


def _gemlite(o: Operands) -> dict:
    from gemlite.helper import A8W8_int8_dynamic

    return {"gemlite_linear": A8W8_int8_dynamic(device=device(), dtype=torch.float16).from_linear(_linear(o))}


def _linear(o: Operands) -> torch.nn.Linear:
    linear = torch.nn.Linear(o.K, o.N, bias=False, device="meta").requires_grad_(False)
    linear.weight = torch.nn.Parameter(o["w"].clone(), requires_grad=False)
    return linear


def _copied(o: Operands) -> dict:
    half = (3 * o.M * o.K + 4 * o.M) // 2  # as many bytes read, and written, as quantization moves in all
    return {"source": torch.randint(-9, 9, (half,), dtype=torch.int8, generator=o.generator, device=device())}


MAKERS: dict[str, Callable[[Operands], dict]] = {
    "x": _x,
    "x_copy": lambda o: {"x_copy": torch.empty_like(o["x"])},
    "w": lambda o: {"w": o.normal(o.N, o.K) * (o.K**-0.5 if o.unit else 1)},
    "x_q": _both(("x_q", "x_scale"), "x", quantize_int8_perrow_torch),
    "x_scale": _both(("x_q", "x_scale"), "x", quantize_int8_perrow_torch),
    "w_q": _both(("w_q", "w_scale"), "w", quantize_int8_perrow_torch),
    "w_scale": _both(("w_q", "w_scale"), "w", quantize_int8_perrow_torch),
    "x_groups_q": _both(("x_groups_q", "x_groups_scale"), "x", quantize_int8_groups_torch),
    "x_groups_scale": _both(("x_groups_q", "x_groups_scale"), "x", quantize_int8_groups_torch),
    "w_groups_q": _both(("w_groups_q", "w_groups_scale"), "w", quantize_int8_groups_torch),
    "w_groups_scale": _both(("w_groups_q", "w_groups_scale"), "w", quantize_int8_groups_torch),
    "w_q_by_columns": lambda o: {"w_q_by_columns": o["w_q"].T.contiguous().T},
    "x8": _both(("x8", "x8_scale"), "x", quantize_fp8_perrow),
    "x8_scale": _both(("x8", "x8_scale"), "x", quantize_fp8_perrow),
    "w8": _both(("w8", "w8_scale"), "w", quantize_fp8_perrow),
    "w8_scale": _both(("w8", "w8_scale"), "w", quantize_fp8_perrow),
    "int8_linear": lambda o: {"int8_linear": Int8Linear.from_linear(_linear(o))},
    "torchao_linear": _torchao,
    "gemlite_linear": _gemlite,
    "weight": lambda o: {"weight": o.normal(o.K)},
    "gate": lambda o: {"gate": o.normal(o.M, o.K)},
    "up": lambda o: {"up": o.normal(o.M, o.K)},
    "source": _copied,
    "target": lambda o: {"target": torch.empty_like(o["source"])},
}


def operand_names(function: Callable) -> list[str]:
    """The names of a function's parameters, those with a default left out."""
    parameters = inspect.signature(python_function(function)).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def expect_product(name: str, function: Callable, y: torch.Tensor, operands: Operands) -> None:
    """Raises Wrong unless y is the product that `function` was asked for, in float64 within a bound.

    A baseline that states an `error` is held to it, as a part of the whole product's size; one that norms the rows of x
    first to what INT8 codes of these cost; all else element by element.
    """
    o, given = operands, operand_names(function)
    wanted = (o.N,) if o.vector else (o.M, o.N)
    if not isinstance(y, torch.Tensor) or tuple(y.shape) != wanted:
        raise Wrong(f"{name} must give a tensor of shape {wanted}, got {_what(y)}")
    stated = _int8_error(o, given) if "weight" in given else getattr(function, "error", None)
    kind = "exact product" if stated or "x" in given and "w" in given else "exact " + " ".join(given)
    kind += " of the norm" if "weight" in given else ""
    if kind not in o.made:
        o.made[kind] = _exact(o, kind, given)
    rows, exact, bound = o.made[kind]
    got = y.reshape(o.M, o.N)[rows].double()
    if getattr(function, "unscaled", False):
        got = got * o["x_scale"][rows].double()[:, None] * o["w_scale"].double()
    if stated:
        error = ((got - exact).norm() / exact.norm()).item()
        if not error <= stated:
            raise Wrong(f"{name} is wrong at {_where(o)}: its relative error is {error:.2g}, expected below {stated:.2g}")
    else:
        wrong = ~((got - exact).abs() <= bound)
        if wrong.any():
            at, n = wrong.nonzero()[0].tolist()
            raise Wrong(f"{name} is wrong at {_where(o)}: {int(wrong.sum())} of {wrong.numel()} elements; "
                        f"y[{int(rows[at])}, {n}] is {got[at, n]:.6g}, expected {exact[at, n]:.6g}")


def _exact(o: Operands, kind: str, given: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows to check, their exact products, and how far off each may be.

    FP32 sums of K products err by K · 2⁻²⁴ of the sum of magnitudes, an FP32 product or quotient by 2⁻²⁴ of itself, the
    final rounding to FP16 by 2⁻¹¹. A code within that of a tie may be either neighbour, which moves the sum by |w_q|.
    """
    rows = o.rows_to_check()
    x = _quantized(o, given, rows) if "weight" in given else o["x"].reshape(o.M, o.K)[rows].double()
    if kind.startswith("exact product"):
        exact, magnitude = _product(x, o["w"]), _product(x.abs(), o["w"].abs())
        return rows, exact, 2.0**-11 * exact.abs() + o.K * 2.0**-24 * magnitude + TINY
    if "x_groups_q" in given:  # two products and an addition for each group
        x, w = _of_groups(o, "x")[rows], _of_groups(o, "w")
        exact, magnitude = _product(x, w), _product(x.abs(), w.abs())
        return rows, exact, 2.0**-11 * exact.abs() + (o.K // GROUP_K + 2) * 2.0**-24 * magnitude + TINY
    w, w_scale = o["w_q"], o["w_scale"].double()
    if "x" in given and o.vector:  # W8A16: x stays as it is
        exact, magnitude = _product(x, w) * w_scale, _product(x.abs(), w.abs()) * w_scale
        return rows, exact, 2.0**-11 * exact.abs() + (o.K + 2) * 2.0**-24 * magnitude + TINY
    if "x" in given:  # codes of the definition, for two that round on the way may differ by twice the bound
        x_scale = x.abs().amax(1, keepdim=True) / 127
        x_q = (x / x_scale).round()
    else:
        x_q, x_scale = o["x_q"][rows].double(), o["x_scale"][rows].double()[:, None]
    exact = _product(x_q, w) * x_scale * w_scale
    near_tie = ((x / x_scale - x_q).abs() > 0.5 - 127 * 2.0**-23).double() if "x" in given else torch.zeros_like(x_q)
    moved = _product(near_tie, w.abs()) * x_scale * w_scale
    return rows, exact, moved + (2.0**-11 + 6 * 2.0**-24) * (exact.abs() + moved) + TINY


def _of_groups(o: Operands, side: str) -> torch.Tensor:
    """What the codes and scales of groups stand for, in float64."""
    return o[f"{side}_groups_q"].double() * o[f"{side}_groups_scale"].double().T.repeat_interleave(GROUP_K, dim=1)


def _int8_error(o: Operands, given: list[str]) -> float:
    """The relative error (Frobenius norm) of a product of INT8 codes, and a tenth more.

    Rounding to steps of amax / 127 of a row is off by a step / √12 in the mean square; the two sides' errors add up in
    squares (Widrow and Kollár, "Quantization Noise", 2008).
    """
    noise = 0.0
    for side in (_quantized(o, given, o.rows_to_check()), o["w"].double()):
        noise += ((side.abs().amax(1) / 127).square().mean() / 12 / side.square().mean()).item()
    return 1.1 * noise**0.5


def _product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x @ w.T in float64, w a part at a time: in float64 it would fill a small GPU's memory."""
    return torch.cat([x @ part.double().T for part in w.split(8192)], dim=1)


def expect_codes(name: str, function: Callable, result, operands: Operands) -> None:
    """Raises Wrong unless the result is the codes and scales of the rows that `function` quantizes.

    Those are x's, or those of RMSNorm(x) · weight or silu(gate) · up where it takes these, or the codes of x and of w,
    which has the rows of gate and then those of up; a copy must be one.
    """
    o, given = operands, operand_names(function)
    columns = o.N // 2 if "w_q" in given else o.K
    if len(given) == 2 and given[1] in ("target", "x_copy"):
        if not torch.equal(o[given[0]], o[given[1]]):
            raise Wrong(f"{name} did not copy")
        return
    if not (isinstance(result, tuple) and len(result) == 2 and all(isinstance(r, torch.Tensor) for r in result)
            and [tuple(r.shape) for r in result] == [(o.M, columns), (o.M,)]):
        raise Wrong(f"{name} must give codes ({o.M}, {columns}) and scales ({o.M},), got {_what(result)}")
    rows = o.rows_to_check()
    # One FP32 quotient. Or what is fused with it, which others round to FP16 on the way, twice at most, 2⁻¹¹ each; gate, up
    # and their product are three roundings, in a number and in amax.
    code_error, scale_error = (127 * 2.0**-23, 2.0**-22) if given == ["x"] else (127 * 2.0**-10, 2.0**-9)
    if "w_q" in given:
        code_error, scale_error = 127 * 6 * 2.0**-11, 3 * 2.0**-11
    q, scale = result[0][rows].double(), result[1][rows].double()
    y = _quantized(o, given, rows)
    want = y.abs().amax(1) / 127
    if not ((scale - want).abs() <= scale_error * want).all():
        raise Wrong(f"{name} is wrong at {_where(o)}: scales must be amax / 127 of their rows")
    if not ((q - y / want[:, None]).abs() <= 0.5 + code_error).all():
        raise Wrong(f"{name} is wrong at {_where(o)}: a code is more than half a step from its number")


def _quantized(o: Operands, given: list[str], rows: torch.Tensor) -> torch.Tensor:
    if "gate" in given:
        gate, up = o["gate"][rows].double(), o["up"][rows].double()
        return gate / (1 + (-gate).exp()) * up
    if "x_q" in given:
        gate, up = (_product(o["x_q"][rows].double(), o["w_q"]) * o["x_scale"][rows].double()[:, None]
                    * o["w_scale"].double()).chunk(2, dim=1)
        return gate / (1 + (-gate).exp()) * up
    x = o["x"][rows].double()
    if "weight" in given:
        return x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() * o["weight"].double()
    return x


def _what(value) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(map(_what, value))}"
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def _where(o: Operands) -> str:
    return f"M={o.M} K={o.K} N={o.N}"
