"""Mutation testing by mutmut, also of the functions under `torch.no_grad()`: mutmut leaves out what is decorated."""

import libcst
from hypothesis import Phase, settings
from libcst import matchers
from mutmut.__main__ import cli
from mutmut.mutation.file_mutation import MutationVisitor

NO_GRAD = matchers.FunctionDef(
    decorators=[matchers.Decorator(matchers.Call(matchers.Attribute(matchers.Name("torch"), matchers.Name("no_grad"))))]
)
skip = MutationVisitor._skip_node_and_children


def skip_unless_no_grad(visitor: MutationVisitor, node: libcst.CSTNode) -> bool:
    return not matchers.matches(node, NO_GRAD) and skip(visitor, node)


MutationVisitor._skip_node_and_children = skip_unless_no_grad
# The same examples for every mutant; that one fails is enough, it need not be made small.
settings.register_profile("mutation", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
settings.load_profile("mutation")

if __name__ == "__main__":
    cli()
