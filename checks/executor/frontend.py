"""Triton's front end, in this process: a described kernel (source.py) to the text of its TTIR.

`serve` is what the process runs that compile.py asks: messages of frames.py.
"""

import functools
import gc
import itertools
import json
import os
import re
import sys
import warnings
from typing import Any

import triton.language as tl
from triton._C.libtriton import ir, passes
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

from checks.executor import frames, source
from checks.executor.calls import tritons_own_alone
from checks.executor.errors import CompileError

TARGET = ("cuda", 90, 32)
"""What the front end is told to compile for; of this the TTIR knows little more than which FP8 types there are."""


def compile_request(request: dict[str, str]) -> str:
    """The text for {"source": ..., "signature": ..., "constexprs": ...}, all JSON. Raises CompileError.

    "aligned", if it is there, names arguments that 16 divides, which only a GPU's compiler wants to know.
    """
    texts: list[str] = []
    try:
        texts = source.texts(request["source"])
        kernel = _defined(request["source"])
        constexprs = {name: constexpr_value(value) for name, value in json.loads(request["constexprs"]).items()}
        return _ttir(kernel, json.loads(request["signature"]), constexprs, json.loads(request.get("aligned", "[]")))
    except Exception as error:  # whatever the compiler says is for who wrote the kernel
        raise CompileError(last_word(error, texts)) from None


def constexpr_value(value: Any) -> Any:
    if isinstance(value, dict) and "dtype" in value:
        return tl.dtype(value["dtype"])
    return tuple(map(constexpr_value, value["tuple"])) if isinstance(value, dict) else value


@functools.lru_cache(maxsize=32)
def _defined(description: str) -> Any:
    """A launch's signature and constexprs change from case to case, its kernel does not."""
    return source.define(description)


_requests = itertools.count()
RENEWED = 100  # requests after which there is a new context: it keeps each type, constant and place that it has seen


@functools.lru_cache(maxsize=1)
def _context(number: int) -> Any:
    context = ir.context()
    ir.load_dialects(context)
    _backend().load_dialects(context)
    return context


@functools.cache
def _backend() -> Any:
    return make_backend(GPUTarget(*TARGET))


def _ttir(kernel: Any, signature: dict[str, str], constexprs: dict[str, Any], aligned: list[str]) -> str:
    backend, context = _backend(), _context(next(_requests) // RENEWED)
    options = backend.parse_options({})
    ordered = {name: signature[name] for name in kernel.arg_names}
    position = {name: i for i, name in enumerate(kernel.arg_names)}
    made = ASTSource(kernel, ordered, {(position[name],): value for name, value in constexprs.items()},
                     {(position[name],): [["tt.divisibility", 16]] for name in aligned})
    with tritons_own_alone(), warnings.catch_warnings():
        # Triton compiles `and` of two blocks as `&` and warns; its interpreter keeps one of the two.
        warnings.filterwarnings("error", "Logical operators 'and' and 'or'", UserWarning)
        module = made.make_ir(backend.target, options, backend.get_codegen_implementation(options), backend.get_module_map(),
                              context)
    manager = ir.pass_manager(context)
    passes.common.add_inliner(manager)
    passes.ttir.add_rewrite_tensor_pointer(manager)  # block pointers and descriptors become pointers and masks
    passes.ttir.add_rewrite_tensor_descriptor_to_pointer(manager)
    passes.common.add_canonicalizer(manager)
    passes.common.add_cse(manager)
    passes.common.add_licm(manager)  # moves what is pure out of loops; loads and stores stay where they are
    passes.common.add_symbol_dce(manager)
    manager.run(module, "ttir")
    return _with_places(module.str_nodebug(), str(module))


def _with_places(text: str, debug: str) -> str:
    """`text` with ` //FILE:LINE` behind each operation; `debug`, the same lines, tells where they are from."""
    named = dict(re.findall(r"^(#loc\d*) = loc\((.*)\)$", debug, re.MULTILINE))
    known: dict[str, str | None] = {}

    def place(name: str) -> str | None:
        if name not in known:
            known[name] = None  # until it is known: no place is part of itself
            if found := re.match(r'"(.*)":(\d+):\d+$', named.get(name, "")):
                known[name] = None if "/triton/language/" in found[1] else f"{found[1]}:{found[2]}"
            else:
                inner = re.findall(r"#loc\d*", named.get(name, ""))
                known[name] = next((p for p in map(place, inner) if p), None)
        return known[name]

    marked = []
    for bare, full in zip(text.splitlines(), (d for d in debug.splitlines() if not d.startswith("#loc")), strict=True):
        found = re.search(r" loc\((#loc\d*|callsite\(.*?\))\)$", full)
        where = next((p for p in map(place, re.findall(r"#loc\d*", found[1])) if p), None) if found else None
        marked.append(f"{bare} //{where}" if where else bare)
    return "\n".join(marked) + "\n"


def last_word(error: BaseException, texts: list[str] | None = None) -> str:
    """What the innermost error says, and the last line that it passed through, where given in a function among `texts`."""
    line = ""
    while True:
        text, node = getattr(error, "src", None), getattr(error, "node", None)
        ours = texts is None or text in texts  # and no function of Triton's
        if text and node is not None and hasattr(node, "lineno") and ours:  # the node may be another function's
            line = "".join(source.source_lines(text)[node.lineno - 1:node.lineno]).strip()
        if error.__cause__ is None:
            break
        error = error.__cause__
    said = [text.strip() for text in str(error).splitlines() if text.strip()]
    message = said[-1][:300] if said else type(error).__name__
    return f"{message}\n  at: {line}" if line else message


def serve() -> None:
    """Answer requests from standard input until it ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what a kernel prints while it is compiled must not mix with the answers
    gc.freeze()  # what is imported stays: to look through it again and again takes a tenth of a compilation
    gc.set_threshold(50_000)
    while True:
        try:
            request = frames.read(0)
        except EOFError:
            sys.exit()
        try:
            answer = {"text": compile_request(request)}
        except CompileError as error:
            answer = {"error": str(error)}
        frames.write(answers, answer)
