"""Count the matrix products and convolutions of a program as XLA is given it.

Keras's backends both write a function down as HLO text, the language of XLA, before anything is optimised. XLA's own
cost analysis counts the body of a loop once, because it does not run the program; an LSTM's loop over time is run here,
as far as its counters go.
"""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from serzoo.errors import SerzooError

_MAX_TURNS = 1_000_000
_COMMENT = re.compile(r"/\*.*?\*/")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = {"call": "to_apply", "while": "body", "fusion": "calls"}
_BYTES = {"pred": 1, "f16": 2, "bf16": 2, "f32": 4, "f64": 8}

_Value: TypeAlias = "int | tuple[_Value, ...] | None"
"""A counter, a tuple that may hold some, or None for what is not known before the program runs."""


@dataclass(frozen=True)
class Product:
    """A matrix product, or the one that a convolution amounts to: (batch, m, k) times (batch, k, n)."""

    batch: int
    m: int
    k: int
    n: int
    output_bytes: int = field(compare=False)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(batch, m, k, n)."""
        return self.batch, self.m, self.k, self.n

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each of the batch x m x k x n terms."""
        return 2 * self.batch * self.m * self.k * self.n


@dataclass(frozen=True)
class Count:
    """What a program computes.

    Args:
        products: its matrix products and convolutions, and how often each is computed.
    """

    products: Mapping[Product, int]

    @property
    def flops(self) -> int:
        """Floating-point operations of all products. Zeros of padding count as any other number."""
        return sum(product.flops * times for product, times in self.products.items())

    @property
    def output_bytes(self) -> int:
        """Size of what all products give."""
        return sum(product.output_bytes * times for product, times in self.products.items())

    def largest(self, number: int) -> list[Product]:
        """Return the products that most of the operations are in, those first."""
        by_flops = sorted(self.products.items(), key=lambda item: -item[0].flops * item[1])
        return [product for product, _ in by_flops[:number]]


def count_products(text: str) -> Count:
    """Count the products of a program, those in loops as often as the loops turn.

    Args:
        text: a module of HLO, not optimised. What its result does not depend on is not counted.

    Raises:
        SerzooError: products stand in a loop that turns as often as the data say.
    """
    computations, entry = _parse(text)
    products: Counter[Product] = Counter()
    _Scope(computations, entry, ()).count(products, 1)
    return Count(products)


@dataclass(frozen=True)
class _Instruction:
    """One line: ``name = shape opcode(operands), attributes``."""

    shape: str
    opcode: str
    operands: tuple[str, ...]
    literal: str
    attributes: str

    @property
    def dims(self) -> tuple[int, ...]:
        """Sizes of the array that it gives."""
        found = _ARRAY.match(self.shape)
        return tuple(int(size) for size in found[2].split(",") if size) if found else ()

    def attribute(self, name: str, pattern: str = r"%?([\w.\-]+)") -> str:
        """Return the value of ``name=value``, empty if there is none."""
        found = re.search(rf"\b{name}={pattern}", self.attributes)
        return found[1] if found else ""

    def axes(self, name: str) -> list[int]:
        """Return the numbers of ``name={0,1}``."""
        return [int(axis) for axis in self.attribute(name, r"\{([\d,]*)\}").split(",") if axis]


@dataclass
class _Computation:
    """Instructions by name; ``root`` is the result's."""

    instructions: dict[str, _Instruction] = field(default_factory=dict)
    root: str = ""


def _parse(text: str) -> tuple[dict[str, _Computation], _Computation]:
    """Return the computations of a module by name, and the one it starts with."""
    computations: dict[str, _Computation] = {}
    entry = current = _Computation()
    for line in text.splitlines():
        if line.endswith("{") and line[:1] not in ("", " "):
            current = _Computation()
            computations[line.removeprefix("ENTRY ").lstrip("%").split()[0]] = current
            entry = current if line.startswith("ENTRY ") else entry
        elif found := _INSTRUCTION.match(_COMMENT.sub("", line)):
            current.instructions[found[2]] = _instruction(found[3])
            current.root = found[2] if found[1] else current.root
    return computations, entry


def _instruction(text: str) -> _Instruction:
    """Read what stands behind ``name =``."""
    shape_end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    opcode = _OPCODE.match(text, shape_end)
    assert opcode is not None, f"no HLO instruction: {text:.200}"
    end = _closing(text, opcode.end() - 1)
    inside = text[opcode.end() : end - 1]
    if opcode[1] in ("constant", "parameter", "iota"):
        return _Instruction(text[:shape_end], opcode[1], (), inside, "")
    operands = re.findall(r"%([\w.\-]+)", inside) if "%" in inside else inside.replace(" ", "").split(",")
    return _Instruction(text[:shape_end], opcode[1], tuple(filter(None, operands)), "", text[end:])


def _closing(text: str, start: int) -> int:
    """Return the place behind the parenthesis that closes the one at ``start``."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    return len(text)


class _Scope:
    """A computation that has been called with these arguments."""

    def __init__(
        self, computations: dict[str, _Computation], computation: _Computation, arguments: Sequence[_Value]
    ) -> None:
        self._computations = computations
        self._computation = computation
        self._arguments = arguments
        self._values: dict[str, _Value] = {}
        self._turns: dict[str, int | None] = {}

    def count(self, products: Counter[Product], times: int) -> None:
        """Add the products that the result depends on, ``times`` over."""
        for name in self._needed():
            instruction = self._computation.instructions[name]
            if instruction.opcode in ("dot", "convolution"):
                products[self._product(instruction)] += times
            elif instruction.opcode == "conditional":
                self._count_branches(instruction, products, times)
            elif instruction.opcode in _CALLED:
                self._count_called(name, instruction, products, times)

    def value(self, name: str) -> _Value:
        """Return what an instruction gives, as far as it counts something."""
        if name not in self._values:
            instruction = self._computation.instructions[name]
            known = instruction.shape.startswith("(") or not instruction.dims
            self._values[name] = self._evaluate(name, instruction) if known else None
        return self._values[name]

    def result(self) -> _Value:
        """Return what the computation gives."""
        return self.value(self._computation.root)

    def _needed(self) -> list[str]:
        """Return the names of what the result depends on."""
        found, waiting = set(), [self._computation.root]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._computation.instructions[name].operands
        return sorted(found)

    def _product(self, instruction: _Instruction) -> Product:
        left, right = (self._computation.instructions[name].dims for name in instruction.operands[:2])
        output = instruction.dims
        size = math.prod(output)
        if instruction.opcode == "dot":
            batch = math.prod(left[axis] for axis in instruction.axes("lhs_batch_dims"))
            k = math.prod(left[axis] for axis in instruction.axes("lhs_contracting_dims"))
            n = math.prod(right) // (batch * k)
        else:
            labels = instruction.attribute("dim_labels", r"\w+_(\w+)->\w+")
            window = math.prod(_sizes(instruction, "size"))
            stretched = math.prod(_sizes(instruction, "lhs_dilate"))  # by zeros that nobody need multiply
            batch, n = 1, right[labels.index("o")]
            k = max(1, window * right[labels.index("i")] // stretched)
        item = _BYTES.get(instruction.shape.partition("[")[0], 4)
        return Product(batch, size // (batch * n), k, n, output_bytes=size * item)

    def _count_called(self, name: str, instruction: _Instruction, products: Counter[Product], times: int) -> None:
        body = self._computations[instruction.attribute(_CALLED[instruction.opcode])]
        arguments = [self.value(operand) for operand in instruction.operands]
        inside: Counter[Product] = Counter()
        _Scope(self._computations, body, arguments).count(inside, 1)
        if inside and instruction.opcode == "while":
            self.value(name)
            turns = self._turns[name]
            if turns is None:
                raise SerzooError(
                    f"The loop {name} turns as often as its data say, so its operations cannot be counted."
                )
            times *= turns
        for product, often in inside.items():
            products[product] += often * times

    def _count_branches(self, instruction: _Instruction, products: Counter[Product], times: int) -> None:
        """Add the dearest branch."""
        listed = instruction.attribute("branch_computations", r"\{(.*?)\}").replace("%", "").split(",")
        branches = [instruction.attribute(f"{which}_computation") for which in ("true", "false")]
        counts: list[Counter[Product]] = []
        for branch in filter(None, (name.strip() for name in [*listed, *branches])):
            counts.append(Counter())
            _Scope(self._computations, self._computations[branch], [None]).count(counts[-1], times)
        products.update(max(counts, key=lambda count: Count(count).flops))

    def _evaluate(self, name: str, instruction: _Instruction) -> _Value:
        match instruction.opcode:
            case "constant":
                return _constant(instruction.literal)
            case "parameter":
                number = int(instruction.literal)
                return self._arguments[number] if number < len(self._arguments) else None
            case "while":
                self._turns[name], final = self._loop(instruction)
                return final
        values = [self.value(operand) for operand in instruction.operands]
        match instruction.opcode:
            case "tuple":
                return tuple(values)
            case "get-tuple-element":
                return values[0][int(instruction.attribute("index"))] if isinstance(values[0], tuple) else None
            case "call":
                called = self._computations[instruction.attribute("to_apply")]
                return _Scope(self._computations, called, values).result()
            case "and" if 0 in values:
                return 0
            case "copy" | "convert" | "bitcast" | "reshape" | "opt-barrier":
                return values[0]
        operation = _OPERATIONS.get(instruction.attribute("direction") or instruction.opcode)
        numbers = [value for value in values if isinstance(value, int)]
        return int(operation(*numbers)) if operation and len(numbers) == len(values) else None

    def _loop(self, instruction: _Instruction) -> tuple[int | None, _Value]:
        """Return how often a loop turns, None if that is not known, and what it leaves."""
        condition, body = (self._computations[instruction.attribute(part)] for part in ("condition", "body"))
        state = self.value(instruction.operands[0])
        for turns in range(_MAX_TURNS):
            again = _Scope(self._computations, condition, [state]).result()
            if isinstance(again, tuple):
                (again,) = again
            if not isinstance(again, int):
                return None, None
            if not again:
                return turns, state
            state = _Scope(self._computations, body, [state]).result()
        return None, None


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "minimum": min,
    "maximum": max,
    "negate": operator.neg,
    "and": operator.and_,
    "or": operator.or_,
    "not": operator.not_,
    "select": lambda choice, yes, no: yes if choice else no,
    **{name: getattr(operator, name.lower()) for name in ("LT", "LE", "GT", "GE", "EQ", "NE")},
}
"""What counters are computed with, by opcode or by direction of a comparison."""


def _constant(literal: str) -> int | None:
    if literal in ("true", "false"):
        return int(literal == "true")
    return int(literal) if re.fullmatch(r"-?\d+", literal) else None


def _sizes(instruction: _Instruction, name: str) -> list[int]:
    """Return the numbers of ``name=2x3`` in a convolution's window."""
    return [int(size) for size in instruction.attribute(name, r"([\dx]+)").split("x") if size]
