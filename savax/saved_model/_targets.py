"""What the functions of a model are written for, and what of them it can't run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from savax.errors import UnsupportedTargetError
from savax.function import LoadedBody, PortableForms
from savax.portability import TENSORFLOW, TargetProblems, consumers_of, refused_nodes
from savax.protos import reachable_functions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from savax.function import ConcreteFunction, FunctionLibrary
    from savax.saved_model._signatures import SignatureMap


def signature_targets(signatures: SignatureMap, target: str) -> dict[int, str]:
    """Returns the target of the functions that signatures run, by the objects' ids."""
    # A signature with other names than its function calls that function.
    concretes = (getattr(c.body, "inner", c) for c in signatures.values())
    return {id(concrete): target for concrete in concretes}


class TargetChecks:
    """Sets the forms that functions are lowered to, and collects what has none.

    Args:
      library: the functions of the model.
      targets: what has to run functions, by the objects' ids; TensorFlow, unless they say so.
    """

    def __init__(self, library: FunctionLibrary, targets: Mapping[int, str]) -> None:
        self._library = library
        self._targets = targets
        self._forms: dict[str, PortableForms] = {}
        self._problems = TargetProblems()

    def begin(self, concrete: ConcreteFunction) -> None:
        """Tells the library what the function is for that is lowered next."""
        target = self._target_of(concrete)
        consumers = consumers_of(target)
        if not consumers:
            self._library.portable_forms = None
            return
        if target not in self._forms:
            self._forms[target] = PortableForms(consumers)
        self._library.portable_forms = self._forms[target]

    def check_loaded(self, concretes: Iterable[ConcreteFunction]) -> None:
        """Looks at the nodes of functions that are saved as they were loaded."""
        for concrete in concretes:
            consumers = consumers_of(self._target_of(concrete))
            if not consumers or not isinstance(concrete.body, LoadedBody):
                continue
            body = concrete.body
            functions = reachable_functions(body.function_name, body.functions)
            for name, definition in functions.items():
                for node, refusal in refused_nodes(definition.node_def, consumers, functions):
                    self._problems.add(f"node {node.name!r} of {name!r}", refusal)

    def finish(self) -> None:
        """Ends the lowering for targets.

        Raises:
          UnsupportedTargetError: a target doesn't run some ops.
        """
        self._library.portable_forms = None
        for forms in self._forms.values():
            self._problems.update(forms.problems)
        found = list(self._problems)
        if found:
            lines = "".join(f"\n  {problem}" for problem in found)
            count = "1 operation has" if len(found) == 1 else f"{len(found)} operations have"
            raise UnsupportedTargetError(f"{count} no form for the target of the model:{lines}")

    def _target_of(self, concrete: ConcreteFunction) -> str:
        own = concrete.function_spec.target
        return own or self._targets.get(id(concrete), TENSORFLOW)
