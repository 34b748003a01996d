"""From a dataset's tree to stages: it is cut at every exchange, and wherever records are kept or read as a whole.

Pure. What several nodes share is computed once if it is exchanged, kept or read as a whole; what is merely piped runs
in the tasks of each of its readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gristmill.plan.dividing import splits_of
from gristmill.plan.functions import Call, ExchangeFunctions, JobCode, Maker, Open, Program
from gristmill.plan.logical import Exchange, Keep, Node, Pipe, Read, Union
from gristmill.plan.stages import (
    Branch,
    InputSpec,
    OutputSink,
    ProgramOp,
    Reads,
    RowsSink,
    ShuffleSink,
    ShuffleSource,
    Sink,
    Source,
    SplitSource,
    Stage,
    StagePlan,
)
from gristmill.plan.streaming import with_alternatives

_NAMES_SHOWN = 6


@dataclass(frozen=True)
class Cut:
    """A dataset's plan, ready to be submitted.

    Attributes:
        plan: the stages; partitions that follow from the input's size are 0.
        code: the functions.
        inputs: what is to be read.
        origins: of each stage, what tells it from those of other nodes of this process.
    """

    plan: StagePlan
    code: JobCode
    inputs: tuple[InputSpec, ...]
    origins: tuple[str, ...] = ()


def cut(root: Node, sink: OutputSink | RowsSink) -> Cut:
    """Cut a dataset's tree into stages, the last of which writes to ``sink``; the letter of its parts is filled in."""
    return _Cutter().cut(root, sink)


@dataclass(frozen=True)
class _Open:
    """A branch of a stage that is not closed yet."""

    sources: tuple[Source, ...]
    program: Program
    names: tuple[str, ...]


@dataclass
class _Cutter:
    stages: list[Stage] = field(default_factory=list)
    steps: list[ExchangeFunctions] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    inputs: list[InputSpec] = field(default_factory=list)
    makers: dict[int, Maker] = field(default_factory=dict)
    reads: dict[int, int] = field(default_factory=dict)  # id of a node that is read → its input
    closed: dict[int, ShuffleSource] = field(default_factory=dict)  # id of a node whose stage is there → how to read it
    opened: dict[int, tuple[_Open, ...]] = field(default_factory=dict)  # id of a node that was visited → its branches

    def cut(self, root: Node, sink: OutputSink | RowsSink) -> Cut:
        branches = self.visit(root)
        if isinstance(sink, OutputSink):
            from_shuffle = all(not isinstance(source, SplitSource) for one in branches for source in one.sources)
            sink = replace(sink, letter="r" if from_shuffle else "m")
        self.close(root, branches, sink)
        stages = with_alternatives(self.stages, self.programs, self.steps)
        code = JobCode(tuple(self.steps), programs=tuple(self.programs), makers=self.makers)
        return Cut(StagePlan(stages), code, tuple(self.inputs), tuple(self.origins))

    def visit(self, root: Node) -> tuple[_Open, ...]:
        """The branches that give a node's records.

        What it is made of comes first, in a loop: a tree is as deep as its user's program ran long.
        """
        pending = [root]
        while pending:
            node = pending[-1]
            if id(node) in self.opened:
                pending.pop()
            elif missing := [each for each in self.made_of(node) if id(each) not in self.opened]:
                pending.extend(reversed(missing))
            else:
                self.opened[id(node)] = self.branches(node)
                pending.pop()
        return self.opened[id(root)]

    def made_of(self, node: Node) -> list[Node]:
        """The nodes that are visited before a node: not each step of a chain, and not each union within a union."""
        match node:
            case Read():
                return []
            case Union():
                return union_of(node)
            case Pipe():
                below, calls = chain_of(node)
                return [below] if calls else [*node.sides, *node.children]
            case Exchange(child):
                return [child] if node.samples is None else [child, node.samples]
            case Keep(child):
                return [child]

    def branches(self, node: Node) -> tuple[_Open, ...]:
        """The branches that give a node's records, those of what it is made of being there."""
        match node:
            case Read():
                return (_Open((SplitSource(self.input_of(node)),), (Open(0),), (node.name,)),)
            case Union():
                return tuple(branch for each in union_of(node) for branch in self.opened[id(each)])
            case Pipe(children, call, sides):
                below, calls = chain_of(node)
                if calls:
                    return tuple(_called(branch, calls) for branch in self.opened[id(below)])
                return self.pipe(children, call, sides)
            case Exchange():
                return (_read(self.exchange(node), node.name),)
            case Keep():
                return (_read(self.keep(node), "kept"),)

    def pipe(self, children: Sequence[Node], call: Call, sides: Sequence[Node]) -> tuple[_Open, ...]:
        wholes = tuple(replace(self.rows(side), reads=Reads.ALL) for side in sides)
        if len(children) == 1:
            return tuple(_called(branch, (call,), wholes) for branch in self.opened[id(children[0])])
        joined = _Open((), (), ())
        for child in children:
            branches = self.opened[id(child)]
            [branch] = branches if len(branches) == 1 else [_read(self.rows(child), "kept")]
            shifted = tuple(_shifted(op, len(joined.sources)) for op in branch.program)
            joined = _Open(joined.sources + branch.sources, joined.program + shifted, joined.names + branch.names)
        return (_called(joined, (call,), wholes),)

    def exchange(self, node: Exchange) -> ShuffleSource:
        if id(node) not in self.closed:
            branches = self.opened[id(node.child)]
            if node.samples is not None:
                samples = replace(self.rows(node.samples), reads=Reads.ALL)
                branches = tuple(replace(branch, sources=(*branch.sources, samples)) for branch in branches)
            step = len(self.steps)
            self.steps.append(replace(node.step, name=node.name, where=node.where))
            combine = node.step.fold is not None or node.step.combiner is not None
            sink = ShuffleSink(step, node.partitions, combine, free=not node.partitions)
            stage = self.close(node, branches, sink)
            self.closed[id(node)] = ShuffleSource(stage, step, combine)
        return self.closed[id(node)]

    def keep(self, node: Keep) -> ShuffleSource:
        if id(node) not in self.closed:
            stage = self.close(node, self.opened[id(node.child)], RowsSink(node.kept))
            self.closed[id(node)] = ShuffleSource(stage, reads=Reads.TASK)
        return self.closed[id(node)]

    def rows(self, node: Node) -> ShuffleSource:
        """A node's records as blocks, for those who read them as a whole, or need them in one branch."""
        if isinstance(node, Keep):
            return self.keep(node)
        key = -id(node)  # what an exchange makes is another thing than its records
        if key not in self.closed:
            self.closed[key] = ShuffleSource(self.close(node, self.opened[id(node)], RowsSink()), reads=Reads.TASK)
        return self.closed[key]

    def input_of(self, node: Read) -> int:
        if id(node) not in self.reads:
            number = self.reads[id(node)] = len(self.inputs)
            self.inputs.append(node.input)
            if node.maker is not None:
                self.makers[number] = node.maker
        return self.reads[id(node)]

    def close(self, node: Node, branches: Sequence[_Open], sink: Sink) -> int:
        """Make a stage of branches, and tell its id."""
        self.origins.append(f"{type(sink).__name__} {node.number}")
        made = []
        for branch in branches:
            splits = splits_of(branch.sources, branch.program)
            made.append(Branch(branch.sources, (ProgramOp(len(self.programs)),), splits))
            self.programs.append(branch.program)
        stage = Stage(len(self.stages), tuple(made), sink, _name(branches))
        self.stages.append(stage)
        return stage.id


def _read(source: ShuffleSource, name: str) -> _Open:
    return _Open((source,), (Open(0),), (name,))


def chain_of(node: Node) -> tuple[Node, tuple[Call, ...]]:
    """The calls of a node that each take one stream and no more, in their order, and the node that they begin from."""
    calls: list[Call] = []
    while isinstance(node, Pipe) and len(node.children) == 1 and not node.sides:
        calls.append(node.call)
        node = node.children[0]
    return node, tuple(reversed(calls))


def union_of(node: Union) -> list[Node]:
    """The children of a union and of the unions among them, in their order."""
    found: list[Node] = []
    pending: list[Node] = [node]
    while pending:
        each = pending.pop()
        if isinstance(each, Union):
            pending.extend(reversed(each.children))
        else:
            found.append(each)
    return found


def _called(branch: _Open, calls: Sequence[Call], wholes: tuple[ShuffleSource, ...] = ()) -> _Open:
    """The branch with more calls; ``wholes`` are the sides of each."""
    places = tuple(range(len(branch.sources), len(branch.sources) + len(wholes)))
    made = [replace(call, sides=places) if places else call for call in calls]
    names = list(branch.names)
    for call in calls:
        # What the user did not call himself is no name for people.
        if call.name and call.name not in names[-1:]:
            names.append(call.name)
    return _Open((*branch.sources, *wholes), (*branch.program, *made), tuple(names))


def _shifted(op: Open | Call, by: int) -> Open | Call:
    if isinstance(op, Open):
        return Open(op.source + by)
    return replace(op, sides=tuple(side + by for side in op.sides)) if op.sides else op


def _name(branches: Sequence[_Open]) -> str:
    names = list(dict.fromkeys(name for branch in branches for name in branch.names if name))
    if len(names) > _NAMES_SHOWN:
        names[_NAMES_SHOWN - 2 : -1] = ["…"]
    return ", ".join(names)
